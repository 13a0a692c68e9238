/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to recovery (recover*.c, load*.c): what a start has read so far, and what is read while the store
 * serves. One thread, the one that starts, then the slow worker; but for the ends of keys [RC-6].
 */
#ifndef VALCACHED_STORE_RECOVER_INT_H
#define VALCACHED_STORE_RECOVER_INT_H

#include "valcached/store/store_int.h"

#define DEPTH      64u              /* pages in flight */
#define SEQ_LIMIT  (UINT64_MAX / 2) /* no store gets there: what says so is damaged */
#define SCAN_BYTES (WBUF_BYTES > DEPTH * FORMAT_ALIGN ? WBUF_BYTES : DEPTH * FORMAT_ALIGN)

/* What ends records: hash -> highest seq. */
struct end {
	uint64_t hash, seq;
	/* the first value that it ended and may be the one that it names; 0: none; END_NAMES_NONE */
	uint64_t loc : 48;
	uint64_t named : 16; /* entry_named(); 0: not known */
};
_Static_assert(INDEX_LOC_BITS < 48, "a place fits");
/* Each value that it ends gets a DROP record. */
#define END_NAMES_NONE ((1ull << 48) - 1)
#define END_LOST                                                                                   \
	((1ull << 48) - 2) /* the same, and the end itself will not be there at the next start */
struct ends {
	struct end *slot; /* seq 0: free */
	size_t cap, n;
};

/* A record that may be the second of its key: something with its tag is in the index. */
struct doubt {
	uint64_t hash, seq, loc, generation;
	uint32_t units;
	uint8_t clock;
};
struct doubts {
	struct doubt *d;
	size_t n, cap;
};

/* A segment that has been written. */
struct found {
	struct path *path;
	uint32_t seg;
	uint64_t generation;
	bool sealed;
	bool unwalked; /* attached: its entries are asked for later */
	bool redo;     /* attached: its recycling was begun */
	uint8_t cut;   /* sealed: as the footer says */
	bool ragged;   /* the same */
	bool torn;     /* walked: some of what its blocks say is not there */
	bool lost;     /* its header makes no sense: only what it ends counts [RC-11] */
	uint32_t entries, others, stream;
	uint64_t table_off, table_sum, data_bytes, age;
	struct format_entry *scanned; /* unsealed: what the walk found */
};

struct reading {
	struct store *s;
	struct io *io;
	uint8_t *mem; /* SCAN_BYTES + slack, aligned */
	struct found *found;
	size_t n;
	struct found *lost; /* not among found */
	size_t nlost;
	struct doubts doubts; /* attached: what was not published */
	uint64_t seq_max, gen_max, torn;
	uint64_t unreadable; /* of torn: the device did not give them */
	uint8_t *dead;       /* write buffers of a dead process, or NULL */
	size_t dead_len, ndead;
	const char *fault; /* of these, or that there are none; NULL: none */
	bool
	    running; /* not at start: no memory of ours is given to an operation that may take too long */
	bool attached; /* to the index of the process before, which this boot has seen */
};

/* ---- load.c: the tables of sealed segments ------------------------------------------------------ */

#define LOAD_BYTES  (24u << 20) /* of tables in flight */
#define LOAD_TABLES 32u

/* A sealed segment whose table is to be read. */
struct unread {
	struct path *path;
	uint64_t generation, table_off, table_sum;
	uint32_t seg, entries, others;
	enum { UNREAD, READING, READ, UNREADABLE } state;
	unsigned tries;
};

/* A value of a table. */
struct item {
	uint64_t hash, seq;
	uint64_t loc : INDEX_LOC_BITS, units : 24, clock : 2;
};

struct load {
	struct store *s;
	struct ends key[STRIPES]; /* under the stripe's lock [RC-6] */
	struct ends place;        /* DROP records, by drop_hash() */
	uint64_t flush;           /* seq of the last FLUSH on disk */
	uint64_t flush_kept;      /* and of the last one in a segment that is not lost */
	bool lost_needed;         /* a lost segment has ended something */
	uint64_t seq;             /* all that was there before has a lower one */
	struct doubts doubts;
	/* records that this process has replaced: ended when what replaced them is durable [RC-7] */
	struct replaced {
		uint64_t loc, generation;
	} * replaced;
	size_t nreplaced, replaced_cap;
	struct {
		uint64_t generation;
		uint32_t committed;
	} * mark;              /* how far each write buffer must have been written for that */
	struct unread *unread; /* the newest first */
	size_t n, next, left;  /* left: neither READ nor UNREADABLE */
	bool ends_only;        /* [RC-3] */
	struct table {
		struct disk_io *d;
		struct unread *u;
	} table[LOAD_TABLES]; /* a ring: flying of them from head on are being read */
	unsigned tables, head, flying;
	size_t table_bytes; /* of the longest */
	struct item *item;  /* of tables that are being indexed, by stripe */
	size_t items_cap;
	uint64_t added, ended, said;
	uint64_t used; /* of added: their saved clock is not 0 */
};

/* ---- load_ends.c -------------------------------------------------------------------------------- */

/* The end of hash, made if there is none; seq is raised to at least the one given. */
struct end *ends_put(struct ends *t, uint64_t hash, uint64_t seq);
struct end *ends_get(const struct ends *t, uint64_t hash);
/* Of an entry that is not a value, what it ends. Nobody else may be at it, or its stripe is locked. */
void load_note(struct load *l, const struct format_entry *e);
/* The same, of a segment that is lost. */
void load_note_lost(struct load *l, const struct format_entry *e);
/* It is ended by a DROP or a FLUSH that is lost. Under its key's lock. */
void load_ended_lost(struct load *l, const struct item *it);
/* A value of the key that end is of, and older, lies at loc [RC-4]. Under the key's lock. */
void load_ended(struct load *l, struct end *end, uint64_t loc);
/* One value, under its key's lock; t: the ends of its stripe. Who calls counts it, by load.added. */
void load_value(struct load *l, struct ends *t, const struct item *it);
/* Those of load.replaced. */
void load_end_replaced(struct load *l);
void doubts_add(struct doubts *ds, const struct doubt *d);
/*
 * Of several records of one key all but the newest are ended, so that none comes to light again [RC-4]. Some
 * of what is in doubt; true: nothing is any more. l: NULL, or what else ends records.
 */
bool doubts_settle(struct store *s, struct io *io, struct load *l, struct doubts *ds);

/* ---- recover_read.c ---------------------------------------------------------------------------- */

/* All of it, or an error. */
int read_at(struct reading *r, struct path *p, void *buf, uint32_t len, uint64_t off);
int read_headers(struct reading *r, struct path *p, char **cause);
void read_footers(struct reading *r);
/* An unsealed segment's blocks, into f->scanned; of a lost one's, of any life, only what is not a value. */
void scan(struct reading *r, struct found *f);

/* ---- recover_replay.c -------------------------------------------------------------------------- */

/* Write buffer i of a process that is dead. */
const struct wbuf_shm *dead_wbuf(const struct reading *r, size_t i, uint8_t **image);
/* Is it a buffer of this store, of a segment's present life, with places that make sense? */
bool wbuf_good(const struct store *s, const struct wbuf_shm *h, const uint8_t *image);
/* [RC-12] What is wrong with the file of write buffers; NULL: all that a process may have left in it is there. */
const char *wbufs_fault(const struct reading *r);
/* The old file of write buffers, if there is one, then the new one takes its name. */
int replay(struct reading *r, char **cause);

/* ---- load.c ------------------------------------------------------------------------------------ */

/* Reads what ends records and what is not sealed [RC-3]. */
int load_begin(struct reading *r);
enum load_step { LOAD_MORE, LOAD_WAITS, LOAD_DONE };
/*
 * A bite of the rest: some tables, or what is in doubt. WAITS: for an operation in flight, or until *due at the
 * latest.
 */
enum load_step load_step(struct load *l, struct io *io, uint64_t *due);
/* Recovery is over but for the rest, which is read while the store serves, or at once if there is none. */
void load_serve(struct store *s, struct io *io);

#endif
