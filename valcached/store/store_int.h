/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the store. What the files of this folder share; README.md has the rules.
 *
 * Lock order: key stripe -> path -> (index lines, RAM stripes, which take nothing else).
 */
#ifndef VALCACHED_STORE_INT_H
#define VALCACHED_STORE_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/cause.h"
#include "base/clock.h"
#include "base/hist.h"
#include "valcached/io/io.h"
#include "valcached/store/format.h"
#include "base/ghost.h"
#include "valcached/store/index.h"
#include "valcached/store/ram.h"
#include "valcached/store/record.h"
#include "valcached/store/store.h"

#define STRIPE_BITS 10
#define STRIPES     (1u << STRIPE_BITS)
#define CLEAN_AHEAD 3u /* clean segments kept ready per path ... */
#define CLEAN_RESERVE                                                                              \
	1u /* ... of which this many only the slow worker may open, so that it can
                                  always write again what it recycles */
#define WBUF_BYTES (FORMAT_EXTENT + 16384u)
/* A place for a long set was wanted in vain so lately: it still is. (It is asked for every 10 ms.) */
#define PLACE_WANTED_NS (100 * NS_PER_MS)
#define LARGE_SETS_MAX  64u /* long values being received at a time */
#define WRITE_TRIES     3u  /* of a write buffer's block */
#define WBUF_MAGIC      0x3146554257434c56ull
#define SEG_NONE        UINT32_MAX
#define PATH_WHY_MAX    160
#define CACHE_LINE      64
#define PATH_LATE_MAX   4u /* [LT-3] */

/*
 * A segment's life, all transitions under its path's lock:
 *
 *   VIRGIN --prepare--> CLEAN --first extent--> OPEN --no room--> FULL --table written--> SEALED
 *                         ^                                                                 |
 *                         +---- new header synced ---- RECYCLING <--- oldest of its path ---+
 *                                                          |
 *                 LEFT <---- no header any more -----------+ of a path that shrinks: leave.c
 */
/*
 * Two streams of segments a path, each with an open segment and an order of age of its own. Main holds
 * what has proved its use: everything until the store is first full, then values that came back
 * (ghost list) and what is written again. Young holds the other new values of a full store; it is kept
 * short (YOUNG_SHARE), and what was used in it moves to main: so a scan passes through young without
 * pushing out main. While main's oldest segments turn out to be hardly used (the data has changed, or was
 * deleted), they go first, and young grows up to a plain ring. docs/decisions.md has the figures.
 */
enum stream { STREAM_MAIN, STREAM_YOUNG, STREAMS };
/* What its last recycled segment tells of main: none since the start, used, or hardly used. */
enum main_use { MAIN_UNKNOWN, MAIN_USED, MAIN_DEAD };

#define YOUNG_SHARE   0.03 /* of a path's bytes; at least YOUNG_MIN segments */
#define MAIN_HARDLY   0.10 /* main's oldest is dead if less of its bytes than this was used */
#define MAIN_PROBE    8u   /* main is looked at after so many young segments at the latest */
#define YOUNG_MIN     4u   /* the open one among them */
#define CREDIT        0.36 /* bytes that may be written again for each byte of a set */
#define TOMBSTONE_MAX ((64u + STORE_KEY_MAX + 8 + FORMAT_UNIT - 1) & ~(FORMAT_UNIT - 1))
#define ALLOW_STEP    256u /* table entries reserved for an extent at a time */
#define MEM_ALIGN     512u /* of every object of the RAM arena */

enum seg_state {
	SEG_VIRGIN,
	SEG_CLEAN,
	SEG_OPEN,
	SEG_FULL,
	SEG_SEALED,
	SEG_RECYCLING,
	SEG_LEFT,
	SEG_STATES
};

struct segment {
	_Atomic uint64_t generation;
	_Atomic uint32_t state; /* written under the path's lock, read by any */
	_Atomic uint32_t pins;  /* disk reads in flight */
	_Atomic bool
	    quarantined; /* something in it cannot be read: it is recycled before its turn */
	uint8_t stream;  /* under the path's lock */
	_Atomic bool close_wanted; /* the recycler waits for its last extents */
	bool ragged;               /* slow worker: its table may not have all that the index has */
	uint64_t
	    pending;   /* slow worker: RECYCLING, clean under this generation once it has no pins */
	bool unwalked; /* FULL, of the process before: seal() asks the disk what it holds */
	/* SEALED: as its footer says [EV-7]; before: a stop or a kill was the end of it, and its footer may say so */
	uint8_t cut;  /* enum format_cut */
	bool lost;    /* RECYCLING: the start could not make sense of its header [RC-11] */
	uint64_t nth; /* OPEN, FULL: `opens` of its path and stream when it was opened [S-5] */
	/* under the path's lock, while OPEN or FULL: */
	uint32_t used;    /* bytes given out, with the header */
	uint32_t extents; /* given out and not finished */
	uint32_t allowed; /* table entries reserved for unfinished extents */
	uint32_t nentries, entries_cap;
	struct format_entry *entries;
	uint64_t opened_ns;
	_Atomic uint64_t data_bytes; /* of records, once sealed */
};

struct path {
	struct store *store;
	struct io_file *file;
	unsigned index;
	uint64_t unit_base; /* of this path's first unit in the store's locations */
	uint32_t nseg;
	uint32_t nstay; /* of nseg; the others leave (leave.c) ... */
	bool left;      /* slow worker: ... or have left */
	bool leave_said;
	unsigned leave_steps;
	_Atomic uint64_t leave_kept, leave_dropped; /* values, since it began to shrink */
	struct segment *seg;
	struct format_super super;
	bool super_safe; /* its newest copy is known to be synced [PS-6] */
	/* path_state.c: */
	_Atomic bool offline;   /* takes no more writes; reads go on ... */
	_Atomic bool gone;      /* ... unless this is set, too: nothing is read or written */
	_Atomic bool probe;     /* an error was met: does it still answer at all? */
	_Atomic uint64_t epoch; /* the highest delete epoch that may stand in its superblock */
	_Atomic uint64_t ends_open, ends_made, ends_safe; /* see path_end_made() */
	_Atomic uint64_t read_errors, write_errors;
	_Atomic uint32_t late;  /* operations that nobody waits for any more: late.c */
	_Atomic bool silent;    /* that is why it is gone */
	char why[PATH_WHY_MAX]; /* it is offline; under lock */
	/* path_return.c: bringing it back */
	_Atomic uint64_t returns_asked, returns_done;
	char outcome[PATH_WHY_MAX]; /* of the last try; under lock */
	_Atomic bool bad_new;       /* a segment was quarantined ... */
	bool bad;                   /* slow worker: ... and is not recycled yet */
	bool parked;                /* slow worker: some segment is pending */
	bool must_empty;            /* slow worker: memory has been emptied, the disk not yet */
	uint64_t serial_found;      /* of the superblock, before this start; 0: there was none */
	bool made;                  /* by this start: its superblock */
	_Atomic uint64_t dirty;     /* bytes written since the last sync began */
	pthread_mutex_t lock;
	/* under lock: */
	uint32_t open[STREAMS];          /* OPEN segment, or SEG_NONE */
	_Atomic uint64_t opens[STREAMS]; /* by this process; read without lock [S-5] */
	uint32_t *clean;                 /* CLEAN segments, nclean of them, in no order [S-4] */
	uint32_t nclean;
	struct order { /* OPEN, FULL and SEALED ones by age: a ring of nseg places */
		uint32_t *ring, head, n;
	} order[STREAMS];
	uint32_t virgins;
	uint32_t grants; /* while it shrinks: segments that serving workers may open [LV-5] */
	uint32_t redo;   /* the oldest so many of main are recycled before anything else [AT-5] */
	uint32_t since_main;    /* young segments recycled since main's last */
	_Atomic bool keep_ends; /* nothing that ends records is let go [EV-3] */
	enum main_use main_use; /* slow worker */
	uint32_t no_room;       /* slow worker: segments put back since one was recycled [EV-3] */
	_Atomic uint64_t seg_recycled, seg_sealed;
};

/* What shared memory says of one write buffer; in on-disk terms, for replay after a kill. */
struct wbuf_shm {
	uint64_t magic;
	uint8_t store_id[16];
	uint32_t path, seg;
	_Atomic uint64_t generation; /* 0: not in use */
	uint32_t ext_off, ext_len;
	_Atomic uint32_t written;   /* bytes of the extent known to be on disk */
	_Atomic uint32_t committed; /* bytes of the extent that hold whole records */
	uint32_t block_off;         /* where the block that is being filled begins */
	_Atomic uint32_t published; /* as committed was when all records were in the index [AT-3] */
	uint32_t buffers;           /* in this file */
};

/*
 * What shared memory says of the store besides: one file that outlives the process, this and then
 * the index. attach.c has the rules [AT-n].
 */
/* A long value that is being received: where, while state is not free. long.c */
struct large_set {
	_Atomic uint32_t state; /* long.c: free, receiving, writing, aborted */
	uint32_t path, seg, ext_off, ext_len;
};

struct live_seg {
	_Atomic uint64_t opened; /* generation in which it was opened last */
	_Atomic uint64_t begun;  /* generation whose recycling was begun last */
	uint64_t opened_ns;
	uint32_t stream;
	uint32_t checked; /* in which pass of the scrub it was opened, or verified last */
};
struct live {
	uint64_t magic;
	uint32_t version, layout;
	uint8_t store_id[16];
	char boot[40]; /* the kernel's boot_id */
	uint64_t index_off, index_len;
	uint32_t npaths, seg_shift;
	struct {
		uint64_t unit_base;
		uint32_t nseg, first; /* of seg[] */
	} path[STORE_PATHS_MAX];
	uint64_t sum;                             /* of all above */
	_Atomic uint64_t serial[STORE_PATHS_MAX]; /* of the superblocks as they are ... */
	_Atomic uint64_t next[STORE_PATHS_MAX];   /* ... or, while one is written, will be */
	_Atomic uint64_t complete;                /* the index knows everything */
	_Atomic uint64_t
	    doubt; /* a write or a read failed: the disk may hold what the index does not */
	_Atomic uint64_t
	    owed; /* DROP records not appended yet; counted before a slot is overwritten */
	_Atomic uint64_t clean; /* stopped with nothing left in write buffers */
	_Atomic uint64_t seq __attribute__((aligned(CACHE_LINE)));        /* next */
	_Atomic uint64_t generation __attribute__((aligned(CACHE_LINE))); /* next */
	struct large_set large[LARGE_SETS_MAX];
	struct live_seg seg[] __attribute__((aligned(CACHE_LINE)));
};

/* A disk operation in flight of a worker, for as long as nobody has lost patience: late.c */
struct watch {
	struct watch *prev, *next;
	uint64_t since;
	struct path *path;
	struct io_op *op;
	void (*expired)(
	    struct watch *w); /* must call watch_late(), or end the operation's wait otherwise */
	bool late;
};

/* One of the slow worker, with its memory. */
struct disk_io {
	struct io_op op;
	struct io *io;
	struct path *path;
	uint8_t *mem;
	uint64_t since;
	bool late; /* its own from now on */
};

/*
 * A write buffer: the image of one extent, filled by one worker, written block by block.
 *
 *   0                  written        block_off            fill          ext_len
 *   | on disk          | being written | header, records... |  free       |
 *
 *  [W-1] Only its worker appends and flushes. At most one write is in flight.
 *  [W-2] Records become visible to others by `committed` (release), then by the index.
 *  [W-3] Others copy records out while holding a pin, taken before `base` is read again.
 *  [W-4] It is given back when all of it is written, base is 0 and pins are 0.
 */
struct wbuf {
	_Atomic uint64_t base; /* location (units) of the extent; 0: nothing here to read */
	_Atomic uint32_t ext_units;
	_Atomic uint32_t pins;
	struct store_worker *owner;
	uint8_t *mem;
	struct wbuf_shm *shm;
	bool active, closing;
	struct path *path;
	uint32_t seg;
	uint64_t generation;
	uint32_t ext_off, ext_len; /* in the segment */
	uint32_t block_off, fill, records;
	uint32_t ends,
	    ends_writing; /* records that end others: in the block being filled, in flight */
	bool lost;        /* its path has failed: lost.c ... */
	bool held;        /* ... with such records: kept until they are moot */
	uint32_t lost_at, rescued, lost_values; /* of its entries: how far that is */
	uint32_t writing;                       /* end of the block being written; 0: none */
	uint64_t dirty_since;                   /* of the oldest byte not submitted; 0: clean */
	struct io_op op;
	struct watch watch; /* of op */
	struct format_entry *entries;
	uint32_t nentries, entries_cap, allowed;
	uint32_t tries;
	uint64_t idle_since; /* nothing to write since; 0: in use */
	struct {
		uint64_t from, to, generation;
	} dumped; /* dump.c: locations that were listed out of the image */
	enum stream stream;
};

enum op_kind { OP_NONE, OP_GET, OP_SET, OP_DELETE, OP_FLUSH, OP_DUMP, OP_PATH };

/* State of an op that is more than a RAM hit or a plain miss; taken from the worker's pool. */
struct store_io {
	struct store_io *free_next;
	struct store_op *op; /* NULL: nobody waits for io any more */
	struct store_worker *sw;
	struct io_op io;
	struct watch watch; /* of io */
	/* find: op.c */
	struct index_probe probe;
	bool probed;
	unsigned at;      /* candidate being looked at */
	uint32_t matches; /* candidates that carry the key; */
	uint32_t gone;    /* that lie on a path which is not read any more */
	struct segment *pinned;
	uint64_t loc;   /* of the candidate being read */
	struct buf *rd; /* buffer of the read in flight, and its charge */
	uint32_t rd_charge;
	bool found; /* best match so far: the highest seq */
	uint64_t found_loc;
	uint32_t found_avail; /* bytes of the record that are in found_buf */
	struct format_record rec;
	struct buf *found_buf;
	uint32_t found_charge;
	/* long values: long.c */
	struct long_value *lv;
	/* dump.c */
	uint64_t cursor, *cursor_out; /* path_return.c: the path ... */
	uint64_t ticket;              /* ... and which try */
	char *text;
	size_t text_n, text_cap;
};

struct worker_count {
#define X(n, s) _Atomic uint64_t n;
	STORE_COUNTERS(X)
#undef X
};
#define COUNT(sw, name)      count_add(&(sw)->count.name, 1)
#define COUNT_N(sw, name, n) count_add(&(sw)->count.name, (n))

struct store_worker {
	struct store *s;
	struct io *io;
	unsigned id;
	_Atomic uint64_t grace_seen;
	uint64_t files_seen;
	/* owned by the worker */
	struct wbuf **wbufs; /* its own */
	unsigned nwbufs;
	struct wbuf *cur[STORE_PATHS_MAX][STREAMS];
	unsigned value_path; /* where the next value goes */
	struct {
		struct store_op *head, **tail;
	} wait[7];                        /* enum wait_for */
	_Atomic bool extent_wanted;       /* the slow worker wakes us when a segment is clean */
	struct watch *watch, *watch_last; /* in flight, the oldest first */
	bool rescuing;                    /* a value of a failed path is written again: lost.c */
	bool retry;                       /* something was given back: look at the queue */
	uint64_t retry_at;
	bool stopping, finished;
	_Atomic bool gone;         /* closed: nobody waits for it or wakes it any more */
	pthread_mutex_t wake_lock; /* between worker_wake() and closing */
	uint64_t sync_at;          /* slow worker */
	_Atomic uint64_t charged;  /* in-flight bytes; written by the worker, read by stats */
	uint64_t budget;
	uint64_t bodies;    /* of charged: large bodies being received */
	uint64_t reads;     /* of charged: what large reads brought, until it is sent */
	unsigned long_sets; /* that have a place in store.live->large[] */
	uint64_t in_flight; /* ops and writes not done */
	uint64_t gets;
	struct store_io *io_free;
	struct worker_count count __attribute__((aligned(CACHE_LINE)));
	struct hist lat[STORE_LATS];
};

struct store {
	struct store_config cfg;
	const struct io_engine *engine;
	uint8_t store_id[16]; /* of superblocks and shared memory */
	uint8_t id[16];   /* of all that lies in segments: what the store was made with [F-10] */
	uint64_t id_seed; /* of all checksums: that, folded */
	uint64_t hash_secret;
	uint32_t seg_shift;
	uint64_t seg_size;
	unsigned npaths;
	uint64_t
	    forgets; /* this start goes on without some of its paths: those (bits) that stay; else 0 */
	struct path path[STORE_PATHS_MAX];
	struct index *index;
	size_t index_len;
	struct live *live; /* and the index behind it */
	size_t live_len;
	const char *layer; /* of the restart: shm, disk or empty */
	bool writes_lost;  /* by a kill and what came after it [RC-12] */
	bool opened;
	_Atomic bool loading; /* tables are read while the store serves [RC-6] */
	struct load *load; /* by the slow worker; its ends also under a key's lock while loading */
	_Atomic uint32_t segments_to_load, segments_loaded;
	uint64_t recover_began;
	struct ram *ram;
	struct ghost *ghost;
	char shm_wbuf[160], shm_index[160];
	char shm_lock[160]; /* "": not held [AT-9] */
	int hold;
	_Atomic uint64_t
	    place_wanted_ns;        /* when a long set found none of the LARGE_SETS_MAX places */
	_Atomic bool flushing;      /* a flush_all is under way: nothing is published [DEL-3] */
	_Atomic uint64_t flush_seq; /* of the last one */
	bool replayed;              /* the file of write buffers is ours */
	uint8_t *wbuf_mem;
	size_t wbuf_len;
	struct wbuf *wbuf; /* all of all workers */
	unsigned nwbuf, wbufs_per_worker;
	struct store_worker *_Atomic
	    *worker;            /* workers + 1; set as they open, freed with the store */
	_Atomic uint64_t epoch; /* of deletes; in the superblock of every path that takes writes */
	_Atomic bool epoch_wanted; /* somebody waits for the next one */
	_Atomic uint64_t epochs_raised;
	uint64_t epoch_tried;   /* slow worker: the highest ever written anywhere */
	_Atomic uint64_t grace; /* epoch asked for */
	_Atomic uint64_t files; /* rises when a file was opened again: rings must be told */
	_Atomic bool full;      /* every segment has been used once: admission begins */
	_Atomic int64_t tokens; /* write budget, bytes */
	_Atomic uint64_t tokens_at;
	_Atomic int64_t credit; /* bytes that may be written again, CREDIT */
	uint64_t opened_ns;
	struct large_set *large; /* live->large */
	pthread_mutex_t drop_lock;
	struct {
		uint64_t loc, generation;
	} * drops; /* index victims to be ended on disk */
	size_t ndrops, drops_cap, drops_total;
	_Atomic uint64_t drops_paid; /* times that none was owed any more [DEL-2] */
	_Atomic bool drops_wanted;   /* a delete waits for that */
	/* evict.c's, written by the slow worker, read by stats */
	_Atomic uint64_t reinserted, reinserted_bytes, evicted, eviction_age_ns, recovered,
	    recover_ns;
	_Atomic uint64_t quarantines, reinsert_corrupt;
	struct scrub *scrub;     /* scrub.c */
	struct recency *recency; /* recency.c */
	_Atomic uint32_t scrub_pass;
	_Atomic uint32_t late; /* of all paths */
	pthread_mutex_t base_lock;
	struct store_counters *base; /* counters at the last reset */
	struct hist *lat_base;
	struct {
		pthread_mutex_t m;
	} __attribute__((aligned(CACHE_LINE))) stripe[STRIPES];
};

static inline void count_add(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline void tell_gone(const struct store *s, enum store_gone why, uint64_t hash,
			     uint64_t loc)
{
	if (s->cfg.gone != NULL)
		s->cfg.gone(s->cfg.gone_arg, why, hash, loc);
}

/* A set has written bytes: so many more may be written again, up to one segment's worth. */
static inline void credit_add(struct store *s, uint64_t bytes)
{
	int64_t add = (int64_t)((double)bytes * CREDIT);

	if (atomic_load_explicit(&s->credit, memory_order_relaxed) < (int64_t)s->seg_size)
		atomic_fetch_add_explicit(&s->credit, add, memory_order_relaxed);
}

/* In the order of the index's lines [index_int.h, home_of()]: see load.c. */
static inline unsigned key_stripe(uint64_t hash)
{
	return (unsigned)(hash >> (64 - STRIPE_BITS));
}

static inline pthread_mutex_t *key_lock(struct store *s, uint64_t hash)
{
	return &s->stripe[key_stripe(hash)].m;
}

/* ---- locations --------------------------------------------------------------------------------- */

/* NULL if loc is outside every path: possible only for bytes from disk or a dead process. */
struct path *loc_path(struct store *s, uint64_t loc, uint32_t *seg, uint32_t *units_at);
static inline uint64_t loc_of(const struct path *p, uint32_t seg, uint32_t units_at)
{
	return p->unit_base + ((uint64_t)seg + 1) * (p->store->seg_size / FORMAT_UNIT) + units_at;
}
/*
 * On disk a place is in units from the path's start: bases move when a path before it grows, shrinks or is gone.
 * Generations are the store's, so place and generation together name one record of the store.
 */
static inline uint64_t place_on(const struct path *p, uint64_t loc)
{
	return loc - p->unit_base;
}
/* Byte offset in the file. Segment 0 follows the superblock's segment. */
static inline uint64_t seg_offset(const struct path *p, uint32_t seg)
{
	return ((uint64_t)seg + 1) << p->store->seg_shift;
}

static inline struct live_seg *seg_live(const struct path *p, uint32_t seg)
{
	const struct live *l = p->store->live;

	return &p->store->live->seg[l->path[p->index].first + seg];
}

/* ---- segment.c --------------------------------------------------------------------------------- */

/*
 * An extent of want bytes (or fewer, but at least min) at the end of the stream's open segment, which
 * may have to be changed for a clean one. allowed table entries are reserved for it. 0 or -EAGAIN: nothing is clean, the slow worker has been
 * called.
 */
int segment_extent(struct path *p, enum stream stream, bool slow, uint32_t min, uint32_t want,
		   uint32_t allowed, uint32_t *seg, uint64_t *generation, uint32_t *off,
		   uint32_t *len);
/* Reserves n more entries of the segment's table. False: there is no room for them. */
bool segment_allow(struct path *p, uint32_t seg, uint32_t n);
/* All writes to the extent are done (or given up); used bytes of it count; entries are its records. */
void segment_finish(struct path *p, uint32_t seg, uint32_t off, uint32_t len, uint32_t used,
		    uint32_t allowed, const struct format_entry *entries, uint32_t n);
void segment_unpin(struct store *s, struct segment *seg);
void segment_quarantine(struct store *s, struct path *p, uint32_t seg, const char *why);
void segment_add_order(struct path *p, enum stream stream, uint32_t seg);

/* ---- write.c ----------------------------------------------------------------------------------- */

/*
 * The new file, beside a killed process's until that is replayed; where there is no room for both, wbuf_mem
 * stays NULL, and replay() makes it in place of the old one [RC-1].
 */
int wbufs_open(struct store *s, char **cause);
int wbufs_make(struct store *s, char **cause);
void wbufs_name(struct store *s);             /* of their file, by the store's id */
void wbufs_close(struct store *s, bool keep); /* keep: the file, with nothing in it */
/*
 * A write buffer of this worker on path p (or any path if NULL) with room for bytes (one record, or
 * several tombstones). NULL: wait. It stays good until the next reserve on that path.
 */
struct wbuf *wbuf_reserve(struct store_worker *sw, struct path *p, enum stream stream,
			  uint32_t bytes);
/*
 * Appends a record: rec (with type, key_len, flags, value_len, content, value_off set), its key and what
 * follows up to the value in head, then the value. Sets seq (unless keep_seq), generation, place and
 * checksum. Room was reserved. Returns its location. The caller holds the key's lock.
 */
uint64_t wbuf_append(struct wbuf *w, uint8_t *head, uint32_t head_len, const uint8_t *value,
		     uint64_t hash, bool keep_seq, uint32_t *units);
/* Everything appended so far is in the index, or has left it, as it should [AT-3]. */
static inline void wbuf_published(struct wbuf *w)
{
	atomic_store_explicit(&w->shm->published,
			      atomic_load_explicit(&w->shm->committed, memory_order_relaxed),
			      memory_order_release);
}
void wbuf_flush(struct wbuf *w);
/* For lost.c: nobody appends to it any more; it is given back without what could not be written. */
void wbuf_no_more(struct wbuf *w);
void wbuf_lost_free(struct wbuf *w);
void wbufs_turn(struct store_worker *sw, uint64_t *deadline);
bool wbufs_idle(const struct store_worker *sw);
/* False: the write budget is used up for now; ask again in a few milliseconds. */
bool wbufs_budget(struct store_worker *sw);
/* Copies up to len bytes of what lies at loc out of a write buffer. 0: it is in none. */
uint32_t wbuf_copy(struct store *s, uint64_t loc, void *to, uint32_t len);
void path_dirtied(struct path *p, uint64_t bytes);
/* The record is to be ended on disk by a DROP: one that the index threw out, which counted it as owed; or another. */
void drop_later(struct store *s, const struct index_ref *victim);
void drop_other(struct store *s, const struct index_ref *ref);

/* ---- lost.c: write buffers whose path has failed ----------------------------------------------- */

/* No write to it is in flight. The rest is done in turns. */
void wbuf_lost(struct wbuf *w, int err);
/* Goes on with it; *deadline: when to be called again, if not all could be done. */
void wbuf_lost_turn(struct wbuf *w, uint64_t *deadline);

/* ---- op.c: what gets, sets and deletes share --------------------------------------------------- */

/*
 * In which line: for memory; for the parts of it that large reads and large bodies may have; for room to
 * write. A body is held for as long as its client takes to send it, so large ones get at most half of the
 * memory; what was read is held until its client has taken it, so large bodies and reads together get
 * at most 7/8. They wait in lines of their own: clients that dawdle with them stop no small request. Long
 * sets wait for one of the LARGE_SETS_MAX places, for the same reason in a line of their own. And for a
 * path to be tried again, and until all tables are read.
 */
enum wait_for {
	WAIT_MEMORY,
	WAIT_READ,
	WAIT_BODY,
	WAIT_WRITE,
	WAIT_PLACE,
	WAIT_PATH,
	WAIT_LOAD,
	WAITS
};
#define BODY_LARGE (64u * 1024 >> STORE_SHRINK)
/* Of a charge: it counts among store_worker.reads. */
#define CHARGE_READ 0x80000000u
static inline uint64_t large_share(const struct store_worker *sw)
{
	return sw->budget - sw->budget / 8;
}

/* For what is read: NULL with *line, in which to wait for it. must: see buf_take(). */
struct buf *buf_take_read(struct store_worker *sw, uint32_t size, bool must, uint32_t *charge,
			  enum wait_for *line);
struct store_io *run_get(struct store_op *op); /* the op's, taken from the pool if it has none */
void run_drop(struct store_op *op);            /* with all that it holds */
/* What lies at loc cannot be read: the slot goes, and what it led to is ended. Any thread, no lock held. */
void slot_unreadable(struct store *s, uint64_t hash, uint64_t loc);
/* Queues op: its step function runs again when there may be memory, or room to write. */
void op_wait(struct store_op *op, enum wait_for what);
/* The op's next step; calls done() if that finishes it. */
void op_step(struct store_op *op);
void ops_retry(struct store_worker *sw);
/* ram_alloc within the worker's share. *charge: what to give back with it. */
struct buf *buf_take(struct store_worker *sw, uint32_t size, bool must, uint32_t *charge);
void buf_give(struct store_worker *sw, struct buf *b, uint32_t charge);
void op_body_over(struct store_op *op);
void op_drop_buf(struct store_op *op);
/* Sets the status and counts the time. */
bool op_finish(struct store_op *op, enum store_status st, int lat);

/* op's I/O has taken too long: it keeps what it needs, and op goes on without it. */
void run_leave(struct store_op *op, const char *what, bool serious);
/* It has come back. */
void run_late_over(struct store_io *run);
/* b is left to I/O that nobody waits for: it counts no more against the worker's share [LT-2]. */
void buf_uncharge(struct store_worker *sw, uint32_t *charge);

enum find_result { FIND_DONE, FIND_PENDING };
/*
 * Reads what the index knows of op's key. FIND_DONE: run->found*, matches and gone are set, and
 * run->probe tells a writer later if anything changed. FIND_PENDING: the step will run again; call again.
 * whole: the value is wanted (of a long one the first chunk), verified; else only the head.
 */
enum find_result op_find(struct store_op *op, bool whole);
void find_restart(struct store_op *op);

bool get_step(struct store_op *op);
bool get_miss(struct store_op *op);
bool set_step(struct store_op *op);
/* set.c, for long values as well: the set is over; how it ends when the key is there already. */
bool set_finish(struct store_op *op, enum store_status st);
bool set_verdict(struct store_op *op, const struct format_record *have, bool equal);
bool delete_step(struct store_op *op);
bool flush_step(struct store_op *op);
bool dump_step(struct store_op *op);
/* long.c: values above STORE_WHOLE_MAX */
uint32_t long_held(const struct long_value *lv);
bool long_get_begin(struct store_op *op);
bool long_get_step(struct store_op *op);
bool long_set_step(struct store_op *op);
void long_drop(struct store_op *op);
bool long_orphan(struct store_op *op);
void long_sets_abort(struct store *s, struct path *p, uint32_t seg);
uint64_t cas_of(const uint64_t content[2]);
/* Same value as the record's? */
static inline bool same_value(const struct format_record *a, const struct format_record *b)
{
	return a->value_len == b->value_len && a->flags == b->flags &&
	       a->content[0] == b->content[0] && a->content[1] == b->content[1];
}

/* ---- path_state.c: paths that fail -------------------------------------------------------------- */

/* The path takes no more writes. Any thread, no lock held. */
void path_fail(struct path *p, const char *what, int err);
/* It answers nothing at all: offline at once [LT-3]. Any thread. */
void path_silent(struct path *p, const char *what);
/* False: no path accepts writes. */
bool any_path_online(const struct store *s);
/*
 * What becomes of a record on p that is to be ended (a delete, a set of a key that lies where nothing is read):
 * WRITE a tombstone on p; MOOT: p comes back empty anyway [PS-2]; WAIT: p was just told to, the slow worker is
 * at it and retries who waits; REFUSED: there is no path left that could remember it.
 */
enum path_end { END_WRITE, END_MOOT, END_WAIT, END_REFUSED };
enum path_end path_end(struct path *p);
/* The same for every candidate of op's that lies on a path which is gone: WRITE if there is none. */
enum path_end path_end_gone(struct store_op *op);
/* Under the key's lock, when that was MOOT: their slots go. */
void path_forget_gone(struct store_op *op);
/*
 * Records that end others, on their way to the disk: appended, written (or lost), and, before and after a sync,
 * which of them it makes safe.
 */
void path_end_made(struct path *p);
void path_ends_written(struct path *p, uint32_t n);
uint64_t path_ends_before_sync(const struct path *p);
/* For stats, any thread: "online", "read-only", "offline"; and why it is not online. */
const char *path_state(const struct path *p);
void path_why(const struct path *p, char why[static PATH_WHY_MAX]);
/* Slow worker. */
void paths_turn(struct store_worker *sw);
/* No segment of it is quarantined any more: it is the path that failed, not they. */
void path_pardon(struct path *p);
/* It does not answer: then it is gone. False: so it is. */
bool path_answers(struct store_worker *sw, struct path *p);
/* At a clean stop, when all is synced: its superblock says that it has missed nothing [GE-3]. */
void path_stopped(struct store_worker *sw, struct path *p);
/* At start, once all headers are read: paths that have missed deletes are empty. gen_max: the highest met. */
int paths_forget_outdated(struct store *s, struct io *io, uint64_t gen_max, char **cause);
/* Wakes those that wait, on every worker. */
void workers_wake(struct store_worker *sw);
/* The newer good copy of the superblock: 1, or 0: the file is blank, -EINVAL: it is neither, -errno. */
int super_read(struct io *io, struct path *p, struct format_super *out);
/* Makes the superblock's next copy durable; io's thread waits for it. */
int super_write(struct io *io, struct path *p);

/* ---- path_return.c: bringing them back ---------------------------------------------------------- */

bool path_step(struct store_op *op);
/* Slow worker: tries what was asked for. */
void paths_return(struct store_worker *sw);
/* Any worker, in a turn of its own in which nothing of the old files is in flight. */
void files_told(struct store_worker *sw);

/* ---- late.c: operations that take too long ------------------------------------------------------ */

/* Any thread: one more of the path is late, or one less. serious: one is enough [LT-3]. */
void path_late(struct store_worker *sw, struct path *p, const char *what, bool serious);
void path_late_over(struct path *p);
/* Worker: op was submitted; expired(w) is called if it takes too long. */
void watch_begin(struct store_worker *sw, struct watch *w, struct path *p, struct io_op *op,
		 void (*expired)(struct watch *w));
/* Its done() was called. True: it was late. */
bool watch_end(struct store_worker *sw, struct watch *w);
void watch_late(struct store_worker *sw, struct watch *w, const char *what, bool serious);
void watch_turn(struct store_worker *sw, uint64_t *next);
#define READ_TRIES 2u /* of what makes no sense: it may have been the read */

/*
 * Slow worker: disk_io_new(), one of the four, disk_wait(): its result; or -ETIMEDOUT, and *d is NULL: it is
 * the kernel's, with its memory. NULL: no memory.
 */
struct disk_io *disk_io_new(struct io *io, struct path *p, size_t bytes);
void disk_io_free(struct disk_io **d);
void disk_read(struct disk_io *d, uint32_t len, uint64_t off);
void disk_write(struct disk_io *d, uint32_t len, uint64_t off);
void disk_sync(struct disk_io *d);
void disk_discard(struct disk_io *d, uint64_t off, uint32_t len);
int disk_wait(struct disk_io **d);
/* Slow worker: waits for something of its own to be done, or to be late. */
void turn_waiting(struct store_worker *sw);

/* ---- scrub.c ----------------------------------------------------------------------------------- */

int scrub_open(struct store *s); /* when the segments are known */
void scrub_close(struct store *s);
void scrub_stats(const struct store *s, store_emit_fn *emit, void *arg);

/* ---- load.c, load_ends.c: what was there before is read while the store serves [RC-6] ------------ */

static inline bool loading(const struct store *s)
{
	return atomic_load_explicit(&s->loading, memory_order_acquire);
}
/*
 * Under the key's lock: whatever is still to be read of this key has been replaced, deleted or answered
 * otherwise: it is ended when it is met. Nothing is done once all has been read.
 */
void load_hide(struct store *s, uint64_t hash);
/* A set has found at loc that the key is there, and is about to say so. False: it has gone meanwhile. */
bool load_vouch(struct store *s, uint64_t hash, uint64_t loc);
/*
 * Under the key's lock: the index gets the slot of what has just been appended. While tables are read nothing
 * is thrown out for it [RC-8]: false: there is no room, and the record is ended itself.
 */
bool slot_add(struct store *s, uint64_t hash, uint64_t loc, uint32_t units, uint8_t clock,
	      struct index_ref *victim);
/* Slow worker: a bite. Returns when it wants to run again; 0: at once. */
uint64_t load_turn(struct store_worker *sw);
/* Nothing of it is in flight any more; it goes on when it is called again. */
void load_drain(struct load *l);
void load_free(struct load **l);

/* ---- geometry.c: other sizes, fewer paths; at start -------------------------------------------- */

/* Before paths are sorted: one that a kill kept from learning the store's new id gets it now [GE-4]. */
void geometry_adopt(struct store *s);
/* Are all paths of the store among those found? Sets s->forgets if it may go on without the others. */
int geometry_members(struct store *s, unsigned found, char **cause);
/* Every file gets the length that it needs; on failure all are as before. */
int geometry_sizes(struct store *s, char **cause);
/* A file that is longer than --size is cut; nothing of it may be in use there. */
void geometry_cut(struct path *p);
/* Zeroes the headers of p's segments from number `from` on, durably. */
int geometry_clear(struct io *io, struct path *p, uint32_t from);
int geometry_grow(struct store *s, struct io *io, struct path *p, char **cause);
/* The store gets its new id [GE-4]; what it holds has been read. */
int geometry_forget(struct store *s, struct io *io, char **cause);
/* All superblocks have the new id. */
void geometry_settled(struct store *s, struct format_super *sb);

/* ---- leave.c: segments that leave a path which shrinks ----------------------------------------- */

/* Slow worker: one step. When to be called again: at once if *more, else by *next. */
void leave_turn(struct store_worker *sw, struct path *p, uint64_t *next, bool *more);
static inline bool leaving(const struct path *p)
{
	return p->nstay < p->nseg && !p->left;
}

/* ---- slow.c, attach.c, recover.c, path.c ------------------------------------------------------- */

/* attach.c. An empty index; then what a process before has left, NULL or the gate that it does not pass. */
int live_make(struct store *s, char **cause);
const char *live_attach(struct store *s, uint64_t *torn);
void live_serial(struct path *p, bool done);
void live_started(struct store *s);
void live_stopped(struct store *s); /* nothing is left in write buffers, if that is so */
/* The store has a new id: its shared memory goes with it. */
int live_rename(struct store *s, const uint8_t id[16], char **cause);
/* Removes what a store that is given up, found at path, has in shared memory; -EBUSY: another process has it. */
int live_forget(const struct store *s, const char *path, const uint8_t id[16], char **cause);
/* What a store with this id has in shared memory: a copy of the store has the same names [AT-9]. */
void live_name(const struct store *s, const uint8_t id[16], const char *what, char name[160]);
/* [AT-9] The names of the present id are this process's from here on; those of an earlier one are let go. */
int live_hold(struct store *s, char **cause);
void live_let_go(struct store *s);
void live_close(struct store *s);
int paths_open(struct store *s, char **cause);
/* log2 of the segment size of a store that is made with this --size. */
uint32_t path_segment_shift(uint64_t size);
void paths_close(struct store *s);
/* What the superblocks say: the process before has stopped in order, or there was none. */
bool paths_stopped_well(const struct store *s);
int recover(struct store *s, struct io *io, char **cause);
/* Slow worker: what an unwalked segment holds, into its entries. */
void recover_walk(struct store_worker *sw, struct path *p, uint32_t seg);
/* One piece of the slow worker's duties; true if there is more to do at once. */
uint64_t slow_turn(struct store_worker *sw);
void slow_finish(struct store_worker *sw);
void worker_wake(struct store_worker *sw); /* any thread; nothing if it is closed */
void slow_call(struct store *s);
/* Slow worker: waits a little for the others; until each has passed a turn of its loop. */
void wait_for_others(struct store_worker *sw, uint64_t ns);
void grace(struct store_worker *sw);

void *shm_map(const char *name, size_t len, const char *what, const char *remedy, char **cause);
void *shm_attach(const char *name, size_t *len);
void shm_unmap(void *mem, size_t len);
void shm_remove(const char *name);
int shm_rename(const char *from, const char *to);
/*
 * [AT-9] Locks the file of that name, which is made if need be, until it is let go or the process ends, however
 * it ends. What is held, or -EBUSY if another process holds it, or -errno; with a sentence. path: of the store.
 */
int shm_hold(const char *name, const char *path, char **cause);
void shm_let_go(int hold, const char *name); /* and removes it */

/*
 * Blocking I/O for start-up and the slow worker: submit with io_wait_done, then wait. Several may be
 * in flight. Result as io_op.res.
 */
void io_wait_done(struct io_op *op);
int io_wait(struct io *io, struct io_op *op);

#endif
