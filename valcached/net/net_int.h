/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to net/. The structures of the daemon's network side and who owns them:
 *
 *   struct net      main's; after net_start() read-only but for the atomics
 *   struct worker   its thread's; others touch only mailbox, conn_n, counters (relaxed)
 *   struct conn     its worker's, from the moment it is taken out of the mailbox
 *   struct req      one request of a connection while the store or the socket needs it
 *   struct out      a piece of output: text of ours in order with values of the store's
 *
 * Requests, output pieces and input buffers come from free lists of the worker and go back there;
 * a connection that waits for its next request has none of them.
 */
#ifndef VALCACHED_NET_INT_H
#define VALCACHED_NET_INT_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/assert.h"
#include "valcached/io/io.h"
#include "valcached/net/net.h"
#include "valcached/net/text.h"
#include "valcached/proto/binary.h"
#include "valcached/store/store.h"

#define NET_MAGIC    0x6e657430u
#define WORKER_MAGIC 0x776f726bu
#define CONN_MAGIC   0x636f6e6eu

/* Values up to here are copied into the output block: cheaper than a piece of an iovec each. */
#define COPY_MAX  1024u
#define OUT_BLOCK (16u * 1024)
#define OUT_IOV   64u
/* Pipelined reads that are looked up together, so that their cache misses overlap. */
#define AHEAD_MAX  16u
#define AHEAD_STEP 4u /* requests between two stages of the prefetch */
/* Reads of one connection under way or waiting for their turn to be sent. */
#define WINDOW_REQS 32u
/* No further request is begun while so many bytes of answers wait, are sent or are expected. */
#define WINDOW_BYTES (1024u * 1024)
/* A connection begins with this and has twice as much after each send that its client has taken. */
#define WINDOW_FIRST (64u * 1024)
/* ... and for who has yet to log in, whatever was taken: one block gathers while another is sent */
#define WINDOW_STRANGER OUT_BLOCK
/* Received and not yet understood bytes: at this mark the connection is not read from any more. */
#define LEFT_MAX (64u * 1024)
/* A body with more than this to come is received straight into its place. */
#define DIRECT_MIN 8192u
/* In bulk mode, what is asked for when a header is expected. */
#define HEAD_MAX 1024u
/* Requests without a bulk body until a connection leaves bulk mode. */
#define BULK_RUN 16u

#define LEFT_CLASSES 10u /* 512 B to 256 KiB */

struct worker;
struct conn;

/* One request, from the store's first step to the end of the send that needs its value. */
struct req {
	struct req *next; /* in the connection's order, or in out.held, or in the free list */
	struct conn *conn;
	void (*then)(struct req *); /* when the store's step is complete */
	uint8_t kind;               /* enum proto_op */
	bool open;                  /* op is between store_op_init and store_op_end */
	bool busy;                  /* the store has op */
	bool ready;                 /* the answer may be given once it is this one's turn */
	bool deferred;              /* a read in the queue that is not begun yet: rule 6 */
	bool last, noreply, expire, value, add, has_cas;
	bool dumps;       /* holds net.dumping */
	enum proto_rc rc; /* of a meta answer other than a hit */
	uint8_t status;   /* enum proto_status, of a binary answer other than a hit or a miss */
	struct proto_bin bin;
	uint32_t flags, body_len;
	uint32_t counted; /* of its read, in conn.reading */
	uint64_t cas, cursor;
	char *placed; /* where the store copied the value to, behind the answer's head */
	const struct proto_line *line; /* the whole answer, if it is a constant */
	struct proto_line constant;    /* ... that is not one of proto_lines; binary: the body */
	struct text text;              /* the whole answer, if it is made up (stats); counted */
	struct proto_meta meta;
	struct store_op op;
};

struct out {
	struct out *next;
	struct req *held; /* their values are pieces of this */
	uint32_t used;    /* of block */
	uint32_t iov_n;
	uint64_t bytes;
	struct iovec iov[OUT_IOV];
	char block[OUT_BLOCK];
};

/* A free input buffer. */
struct left {
	struct left *next;
};

/*
 * The end of the daemon: the receive under way is stopped, what the kernel had by then is received, then no
 * more; all that is answered, and the client is told the end of the stream and given time to hang up.
 */
enum conn_drain { DRAIN_NOT, DRAIN_STOP, DRAIN_IN, DRAIN_TOLD };

/*
 * How long a client has owed us the rest of a request, or the taking of an answer: limits.c. The clock stands
 * while it waits for us.
 */
struct patience {
	uint64_t since_ns; /* 0: it stands */
	uint64_t spent_ns; /* before that */
	uint64_t mark_ns; /* the time is over: from then on the client must keep up; 0: it is not */
	uint64_t mark;    /* what had been moved by then */
};

/* What a client owes. */
enum { OWES_LINE = 1, OWES_BODY = 2, OWES_TAKING = 4 };

enum conn_in { IN_LINE, IN_BODY, IN_END, IN_HOLD };

/* Memory that can be short: values', connections' own. */
enum { SHORT_STORE, SHORT_NET, SHORT_N };

struct conn {
	unsigned magic;
	int fd;
	struct worker *w;
	/* input: conn.c */
	uint8_t in;       /* enum conn_in */
	bool dirty;       /* on the worker's list of those to settle */
	bool eof;         /* no more input is received */
	bool hung_up;     /* the client sends no more */
	bool rested;      /* nothing was asked or owed when the daemon began to end */
	bool local;       /* on the unix socket */
	bool secure;      /* on a listener with TLS */
	uint8_t owes;     /* OWES_... */
	uint8_t drain;    /* enum conn_drain */
	bool closing;     /* nothing more is understood; answers go out, then the end */
	bool dead;        /* being taken down */
	bool bulk;        /* single receives instead of multishot */
	bool rx_direct;   /* the receive under way goes into the body */
	bool rx_cancel;   /* its end was asked for */
	bool wait_gets;   /* IN_HOLD: cur begins its step when no read is pending */
	uint8_t end_seen; /* IN_END: bytes of the "\r\n" seen */
	bool end_bad;
	uint8_t small_run;  /* bulk: requests since the last bulk body */
	bool watched;       /* on the worker's list of those who owe progress */
	uint8_t watch_idle; /* looks without progress */
	uint32_t served;    /* requests in this turn */
	uint32_t drain_in;  /* DRAIN_IN: bytes that are still received */
	uint64_t told_mark; /* DRAIN_TOLD: conn__exchanged() at the last look */
	struct proto proto;
	uint32_t left_at, left_n, left_room;
	char *left; /* bytes received, not yet understood */
	/* requests: request.c, answer.c */
	struct req *cur;    /* the request that holds the input: writes, and what must be alone */
	uint32_t filled;    /* bytes of cur->op.body */
	uint32_t body_left; /* bytes of the value still to come */
	uint32_t busy;      /* operations the store has */
	uint32_t pending;   /* reads in the queue that are not done */
	struct req *last_read; /* the latest that was begun, while it is pending */
	struct req *deferred;  /* the first that was not */
	uint32_t queue_n;
	uint32_t mean;    /* bytes of recent values */
	uint32_t window;  /* WINDOW_FIRST to WINDOW_BYTES: rule 7 */
	uint64_t reading; /* bytes of disk reads under way */
	struct req *queue, **queue_end;
	struct req *stream; /* == queue: a value that goes out in chunks */
	/* output: output.c */
	struct out *out, *out_last;
	uint64_t out_bytes;  /* in out */
	uint64_t held_bytes; /* values ready in the queue */
	struct conn *dirty_next;
	struct io_op rx, tx;
	/* lists of the worker */
	struct conn *next, *prev;
	struct conn *watch_next, *watch_prev; /* those whose client owes us progress */
	uint64_t watch_ns, watch_mark;
	uint64_t press_ns[SHORT_N]; /* press.c need not look at it before */
	uint64_t still_ns,
	    still_mark;    /* since then it has been slower than SLOW_RATE; 0: not known */
	uint64_t ended_ns; /* a receive was ended to know how far it is: conn__ask_progress() */
	/* limits.c */
	struct patience in_time, out_time;
	uint64_t asked_ns; /* the last input, or the last answer that was taken */
	uint64_t moved;    /* bytes of receives and sends that are done */
	struct address *address;
	struct tls *tls; /* NULL: plain */
};

struct listener {
	int fd;
	uint16_t port; /* 0: unix */
	struct net *net;
	bool tls;
	struct io_op accept;
	char where[128];
};

/* Of the unix socket: who owns it, and who may connect. rights.c */
struct rights {
	uid_t uid; /* (uid_t)-1: not stated */
	gid_t gid;
	bool listed; /* only these users */
	unsigned allow_n;
	uid_t *allow;
};

struct worker_counters {
#define X(n, s) _Atomic uint64_t n;
	NET_COUNTERS(X)
#undef X
};

struct worker {
	unsigned magic, id;
	struct net *net;
	struct io *io;
	struct store_worker *store;
	struct conn *dirty, **dirty_end; /* to settle, in order */
	struct req *reqs;
	struct out *outs;
	unsigned reqs_n, outs_n;
	struct left *left[LEFT_CLASSES];
	unsigned left_n[LEFT_CLASSES];
	struct conn *conns;              /* all */
	struct conn *watch, *watch_last; /* oldest first */
	uint64_t press_ns;               /* the next look at who keeps memory, not before */
	uint64_t places_ns;              /* since then somebody waits for a place; 0: nobody */
	uint64_t idle_ns;                /* the next look at who asks nothing */
	int64_t timeout_ns;              /* of the next turn */
	bool narrow; /* memory for input is or lately was short: little is received at a time */
	bool serving, draining, killed;
	bool sated;        /* draining: nothing more is received */
	bool lingered;     /* draining: clients have had the time to hang up */
	uint64_t drain_ns; /* when that began */
	uint64_t
	    told_ns; /* when one was told the end of the stream, or the last look at these; 0: none */
	unsigned told_looks;  /* since one was seen at work */
	bool woken;           /* since this turn began */
	bool gone;            /* under net.lock: no connection, no accept any more */
	uint64_t flush_at_ns; /* a delayed flush_all; 0: none */
	struct req *flush;
	uint64_t accept_at_ns;        /* worker 0: accepting is paused until then; 0: it is not */
	unsigned greeted;             /* TLS handshakes that went on in this turn */
	struct proto_request rq;      /* scratch */
	struct req *ahead[AHEAD_MAX]; /* scratch: reads parsed and not begun; empty between calls */
	unsigned ahead_n;
	pthread_t thread;
	bool started;
	int start_rc;
	char *start_cause;

	char plain[16384];                           /* scratch of TLS: a record's text */
	_Alignas(64) _Atomic(struct conn *) mailbox; /* pushed by worker 0 */
	_Alignas(64) _Atomic unsigned conn_n;
	_Atomic uint64_t held; /* of net_config.conn_bytes; written by its thread */
	_Alignas(64) struct worker_counters count;
};

/*
 * The stages of a net, set by the main thread and followed by the others. NET_OPEN: the loops turn, nobody is
 * accepted. Until NET_CLOSING every
 * worker's loop turns and its io may be woken; after it, no connection exists.
 */
enum net_stage { NET_OPEN, NET_SERVING, NET_DRAINING, NET_KILLING, NET_CLOSING, NET_SLOW_STOP };

/* A client that owes progress is looked at so many times in stall_ns. */
#define WATCH_LOOKS 4u
/* Bytes a second that a client has to keep up once its patience is over, or others need what it holds. */
#define SLOW_RATE (16u * 1024)

struct net {
	unsigned magic;
	struct net_config cfg;
	struct store *store;
	const struct io_engine *engine;
	struct auth *auth; /* NULL: whoever connects is served */
	struct listener *listener;
	unsigned listener_n;
	uint64_t held_max; /* of each worker */
	struct addresses *addresses;
	struct tls_server *tls; /* NULL: none */
	bool unix_made;
	struct rights rights; /* of the unix socket */
	dev_t unix_dev;
	ino_t unix_ino;
	uint64_t start_ns;
	struct worker *worker; /* workers + 1: the last is the slow thread's */
	_Atomic int stage;
	_Atomic bool dumping; /* one metadump at a time */
	_Atomic bool accepting;
	_Atomic unsigned conn_n;
	pthread_mutex_t lock; /* base, start-up hand-shake */
	pthread_cond_t changed;
	struct net_counters base; /* what net_reset() subtracts */
};

/* Owner thread only: no locked instruction needed. */
static inline void count_add(_Atomic uint64_t *c, uint64_t by)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* listen.c */
int net__listen(struct net *net, char **cause);
void net__unlisten(struct net *net);

/* rights.c */
int rights__read(struct net *net, char **cause);
/* Before anybody can connect. */
int rights__give(const struct net *net, char **cause);
bool rights__admit(struct worker *w, const struct listener *l, int fd);
void rights__free(struct net *net);

/* accept.c: worker 0 */
void accept__start(struct worker *w);
void accept__stop(struct worker *w);
bool accept__idle(const struct worker *w);
/* A connection has ended: a descriptor is free again. */
void accept__freed(struct worker *w);
uint64_t accept__turn(struct worker *w, uint64_t now);

/* address.c: connections by address. False: it has as many as it may. */
int address__open(struct net *net);
bool address__take(struct worker *w, const struct listener *l, int fd, struct address **a);
void address__give(struct net *net, struct address *a);
void address__close(struct net *net);

/* limits.c */
/* At the end of settling; what the client owes, and for how long. True: too long, it was taken down. */
bool limits__settled(struct conn *c);
/* The same when nothing happened: the next look at a watched connection. */
bool limits__overdue(struct conn *c);
/* Bytes that the client has taken and given, as far as they are known. */
uint64_t limits__moved(const struct conn *c);
/* Closes who asks nothing; when to look again. */
uint64_t limits__idle_turn(struct worker *w, uint64_t now);

/* worker.c */
void *worker__main(void *worker);
void *worker__slow_main(void *worker);
/* Makes w->io; any thread. 0, or -errno with w->start_cause. */
int worker__loop(struct worker *w, bool serves);
/* What worker__main() is made of; tests that have one thread call them. False: it is over. */
int worker__open(struct worker *w);
bool worker__turn(struct worker *w);
void worker__close(struct worker *w);
/* Counts memory of connections that is not of the lists below: w->held. */
void worker__hold(struct worker *w, size_t n);
void worker__let_go(struct worker *w, size_t n);
struct req *worker__req(struct worker *w);
void worker__req_free(struct worker *w, struct req *r);
struct out *worker__out(struct worker *w);
void worker__out_free(struct worker *w, struct out *o);
char *worker__left(struct worker *w, uint32_t need, uint32_t *room);
void worker__left_free(struct worker *w, char *left, uint32_t room);
/* The worker's part of net_config.conn_bytes is used up: one request at a time. */
static inline bool worker__tight(const struct worker *w)
{
	return atomic_load_explicit(&w->held, memory_order_relaxed) > w->net->held_max;
}
void worker__watch(struct worker *w, struct conn *c);
void worker__unwatch(struct worker *w, struct conn *c);

/* press.c: memory is short; clients that take no output do not keep it. When to look again. */
uint64_t press__turn(struct worker *w, uint64_t now);

/* conn.c */
struct conn *conn__new(int fd);
void conn__begin(struct worker *w, struct conn *c);
/* Input, in plain text. */
void conn__bytes_came(struct conn *c, const char *bytes, size_t n);
/* Nothing is asked, nothing is owed. */
bool conn__at_rest(const struct conn *c);
/* A number that changes when the client has taken some of what was sent, or has sent more. */
uint64_t conn__exchanged(const struct conn *c);
void conn__settle(struct conn *c);
/*
 * Of a unix socket the kernel tells how much of a body has come only when the receive ends: so it is ended, and is made
 * again for the rest.
 */
void conn__ask_progress(struct conn *c);
/* Ends a receive that may bring much at once. */
void conn__narrow(struct conn *c);
/* Takes the connection down without another word. */
void conn__die(struct conn *c);
/* Looks whether a client that owes progress made any. True: not for stall_ns; it was taken down. */
bool conn__look(struct conn *c);
static inline void conn__dirty(struct conn *c)
{
	struct worker *w = c->w;

	if (c->dirty)
		return;
	c->dirty = true;
	c->dirty_next = NULL;
	*w->dirty_end = c;
	w->dirty_end = &c->dirty_next;
}

/* login.c: a connection begins; its client may have to say who it is. */
void login__begin(struct worker *w, struct conn *c);

/* request.c */
size_t request__input(struct conn *c, const char *bytes, size_t n);
bool request__may_begin(struct conn *c);
/* The end of the stream inside a request: it is dropped. */
void request__abort(struct conn *c);
void request__resume(struct conn *c);
void request__free_all(struct conn *c);
void request__end(struct conn *c, struct req *r);

/* answer.c: puts the answers whose turn has come. */
void answer__emit(struct conn *c);

/* read.c: begins what had to wait for memory that an earlier read of the connection waited for. */
void read__resume(struct conn *c);

/*
 * set.c. Bytes that a direct receive asks for: the rest of the body or of this part of it, and, behind a
 * body in one piece, its "\r\n", which so costs no receive of its own. set__body_came(): n of them came.
 */
uint32_t set__body_room(const struct conn *c);
void set__body_came(struct conn *c, uint32_t n);

/* service.c: the time of the worker's delayed flush_all has come. */
void service__flush_due(struct worker *w);
/* Before anything that came after its time is understood. */
static inline void service__flush_in_time(struct worker *w)
{
	if (unlikely(w->flush_at_ns != 0) && !w->draining && io_now(w->io) >= w->flush_at_ns)
		service__flush_due(w);
}

/* output.c */
void output__text(struct conn *c, const char *bytes, size_t n);
/* Room for n <= OUT_BLOCK bytes; what was written is told to output__wrote(). */
char *output__room(struct conn *c, uint32_t n);
void output__wrote(struct conn *c, uint32_t n);
void output__ref(struct conn *c, const void *bytes, size_t n);
/* The request's memory is needed until what was put so far is sent. */
void output__hold(struct conn *c, struct req *r);
void output__send(struct conn *c);
void output__free_all(struct conn *c);
/* The first out was sent (or never will be): it goes, with what it held. */
void output__done(struct conn *c, bool sent);
/* A send has ended: the client has moved, the connection is to be settled. */
void output__moved(struct conn *c);
/* Nothing is begun because the send of the first out is done. */
bool output__last(const struct conn *c);

#endif
