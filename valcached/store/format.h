/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies on disk. Little-endian (asserted at build time for the host), versioned, checksummed.
 *
 *  path (file or block device), all offsets from its start:
 *
 *   0          super_size                                                        size
 *   | superblock | segment 0 | segment 1 | ... | segment n-1 | (unused rest < one segment) |
 *
 *   super_size = one segment: superblock A at 0, superblock B at 4096 (the newer valid one counts),
 *   and from 64 KiB on, in two halves that are written in turn, how often values were used. An older version
 *   leaves that alone:
 *
 *   64 KiB                              + half                               2 * half   super_size
 *   | lead 4 KiB | chunk | chunk | ...  | lead 4 KiB | chunk | chunk | ...    | (rest)   |
 *
 *   chunk of one sealed segment, on a multiple of 64:
 *
 *   0        56
 *   | header | clock 0, 1, 2, 3 | 4, 5, 6, 7 | ...   2 bits a value, in the order of the segment's table
 *
 *   Each chunk is believed by itself: what is torn, or of another life of its segment, says nothing. Of two
 *   good ones of a segment the one of the later save counts.
 *
 *  segment (power of two, 4 to 64 MiB):
 *
 *   0        4096                                       table_off        size-4096   size
 *   | header | extent | extent | ... | extent (short) |   | table entries  |  footer   |
 *
 *   Header: written and synced before any data of its generation [F-1]. Table and footer: written when
 *   every extent is finished; their presence (valid, same generation) is what "sealed" means [F-2].
 *
 *  extent: up to 1 MiB (write buffers), or one long record; starts on a multiple of 4096:
 *
 *   | block | block | ... |        each block: 512-byte header, records, zero padding to 4096
 *
 *   A block is one write [F-3]. Recovery of an unsealed segment looks for block headers at every
 *   multiple of 4096, so it steps over a torn one.
 *
 *  record: starts on a multiple of 128:
 *
 *   0        64      64+key      value_off              value_off+len     units*128
 *   | header | key   | (pad, sums) | value               | zero padding     |
 *
 *   value_off is 8-aligned right after the key for values up to 256 KiB (one chunk, verified by the content
 *   hash itself); longer values have one XXH3-64 per 256-KiB chunk between key and value; values above
 *   1 MiB have value_off = 4096 - 512, so that the value starts on a 4096 boundary of the file.
 *
 *  [F-4] A record is believed only if its header checksum (seeded with the store's id), its segment's
 *        generation and its own location match, and served only if the key and the chunk's checksum match.
 *  [F-5] seq is drawn from one counter per store, grows for ever, and is kept by re-insertion.
 *        Of two records of one key the higher seq counts; a tombstone ends all lower ones.
 *  [F-6] A tombstone lies on the path of the value that it ends and names the value's segment and
 *        generation: it is written again at recycling for as long as that segment still has that
 *        generation (a FLUSH: while any segment of the store has a generation up to the one it names).
 *  [F-7] Generations are drawn from one counter per store; a segment's content belongs to the
 *        generation in its header, everything else in it is noise of an earlier life.
 *  [F-8] A delete that its own path can no longer take raises delete_epoch on all paths that can. A path
 *        with a lower one than another has missed deletes: it is empty from here on, by empty_below.
 *  [F-9] No generation is drawn twice, also when the segments that had the highest are cut off the path or gone
 *        with another: generation_floor; nor below empty_below, whatever headers a power cut left.
 *  [F-10] A store that goes on without one of its paths is another store: it gets a new id and leaves out 2^32
 *        generations, so nothing that lies or will lie on the path that was left is ever taken for its own.
 */
#ifndef VALCACHED_STORE_FORMAT_H
#define VALCACHED_STORE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "valcached/store/shrink.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

#define FORMAT_VERSION   2u
#define FORMAT_UNIT      128u /* of locations and record sizes */
#define FORMAT_BLOCK     512u /* block header */
#define FORMAT_ALIGN     4096u
#define FORMAT_EXTENT    (1024u * 1024 >> STORE_SHRINK)
#define FORMAT_CHUNK     (256u * 1024 >> STORE_SHRINK)
#define FORMAT_WHOLE_MAX (1024u * 1024 >> STORE_SHRINK)
#define FORMAT_KEY_MAX   250u
#define FORMAT_SEG_SHIFT (22u - STORE_SHRINK) /* of the smallest segment */
#define FORMAT_SEG_MIN   (1ull << FORMAT_SEG_SHIFT)
#define FORMAT_SEG_MAX   (64ull << 20 >> STORE_SHRINK)

#define FORMAT_SUPER_MAGIC  0x31434156454c4156ull /* "VALEVAC1" */
#define FORMAT_SEG_MAGIC    0x31474553434c4156ull /* "VALCSEG1" */
#define FORMAT_FOOT_MAGIC   0x31424154434c4156ull /* "VALCTAB1" */
#define FORMAT_LEAD_MAGIC   0x31434552434c4156ull /* "VALCREC1" */
#define FORMAT_CLOCK_MAGIC  0x4b4c4356u           /* "VCLK" */
#define FORMAT_BLOCK_MAGIC  0x4b4c4256u           /* "VBLK" */
#define FORMAT_RECORD_MAGIC 0x43455256u           /* "VREC" */

_Static_assert(FORMAT_CHUNK % FORMAT_ALIGN == 0, "chunks are read and written alone");

/* Stopped in order, and took writes until then: it has missed no delete of any path. */
#define FORMAT_CLEAN 1u

struct format_super {
	uint64_t magic;
	uint32_t version;
	uint32_t path_index; /* which of the store's paths this is */
	uint32_t path_count;
	uint32_t seg_shift; /* log2 of the segment size */
	uint64_t seg_count;
	uint64_t item_max;
	uint8_t store_id[16];  /* random; the same on all paths */
	uint64_t hash_secret;  /* seed of key hashes, random */
	uint64_t serial;       /* of two valid copies the higher counts */
	uint64_t delete_epoch; /* rises when a delete could not be written on its own path [F-8] */
	uint64_t flags;        /* FORMAT_CLEAN */
	uint64_t
	    empty_below; /* segments of a lower generation are empty, whatever they hold [F-8] */
	/* the paths (bits) that delete_epoch was being written to, and the one before it [F-8] */
	uint64_t epoch_paths, epoch_before;
	uint64_t generation_floor; /* lower generations may have been used [F-9] */
	/* of all sums and segment headers: the id that the store was made with; zero: store_id [F-10] */
	uint8_t seed_id[16];
	/* while not all paths have the new store_id: the one before, and the paths (bits) that stay [F-10] */
	uint8_t former_id[16];
	uint64_t former_paths;
	uint8_t reserved[4096 - 160 - 8];
	uint64_t sum; /* XXH3-64 of all before */
};
_Static_assert(sizeof(struct format_super) == 4096, "superblock");

struct format_segment {
	uint64_t magic;
	uint32_t version;
	uint32_t index; /* number of this segment on its path */
	uint64_t generation;
	uint64_t prev_generation; /* of the life that ended here */
	uint8_t store_id[16];
	uint8_t reserved[4096 - 48 - 8];
	uint64_t sum;
};
_Static_assert(sizeof(struct format_segment) == 4096, "segment header");

struct format_block {
	uint32_t magic;
	uint32_t bytes; /* of the whole block with this header and its padding: n * 4096 */
	uint64_t generation;
	uint64_t offset; /* in the segment */
	uint32_t used;   /* bytes up to the end of the last record */
	uint32_t records;
	uint8_t reserved[FORMAT_BLOCK - 32 - 8];
	uint64_t sum; /* XXH3-64, seeded with the store's id, of this header */
};
_Static_assert(sizeof(struct format_block) == FORMAT_BLOCK, "block header");
_Static_assert(FORMAT_BLOCK % FORMAT_UNIT == 0, "records start on units");

enum format_type {
	FORMAT_VALUE = 1,
	FORMAT_TOMBSTONE = 2, /* ends all records of this key with a lower seq */
	FORMAT_DROP = 3,      /* ends one record, by place and generation */
	FORMAT_FLUSH = 4,     /* ends every record of this store with a lower seq */
};

struct format_record {
	uint32_t magic;
	uint8_t type;    /* enum format_type */
	uint8_t key_len; /* 1 to 250; 0 for DROP and FLUSH */
	uint16_t key_id; /* reserved for an encryption key's id; 0 */
	uint32_t flags;  /* memcached client flags */
	uint32_t value_len;
	uint64_t seq;
	uint64_t
	    content[2]; /* VALUE: XXH3-128 of it, low and high. TOMBSTONE, DROP: place (units from
	                           the path's start) and generation of what it ends. FLUSH: 0, highest generation it ends */
	uint64_t generation; /* of the segment it lies in */
	uint32_t units_at;   /* place in the segment, in units */
	uint32_t value_off;  /* from the start of the record */
	uint64_t sum;        /* XXH3-64, seeded, of header up to here, key and chunk sums */
};
_Static_assert(sizeof(struct format_record) == 64, "record header");
_Static_assert(offsetof(struct format_record, sum) == 56, "the checksum covers all before it");

/* One per record of a sealed segment: first those that are not values, then the values by place. */
struct format_entry {
	uint64_t
	    hash; /* of the key, seeded; DROP: of place and generation of what it ends; FLUSH: 0 */
	uint64_t seq;
	uint32_t units_at;
	uint32_t units : 24; /* TOMBSTONE: in the low 8 bits, and above them which record it names:
	                        entry_units(), entry_named() */
	uint32_t type : 8;
};
_Static_assert(sizeof(struct format_entry) == 24, "table entry");

/* A stop or a kill sealed it, less than half full [EV-7]. */
enum format_cut {
	FORMAT_CUT_NOT = 0,
	FORMAT_CUT_ALL = 1,  /* ... and all of it can be written again */
	FORMAT_CUT_LONG = 2, /* ... but it has values that are too long for that */
};

struct format_footer {
	uint64_t magic;
	uint32_t version;
	uint32_t entries;
	uint64_t generation;
	uint64_t table_off;  /* in the segment; a multiple of 4096 */
	uint64_t table_sum;  /* XXH3-64, seeded, of the entries */
	uint64_t seq_max;    /* highest seq in the segment */
	uint64_t data_bytes; /* of records */
	uint32_t others;     /* entries that are not values; they come first */
	uint32_t stream;     /* which of the path's streams this segment belonged to */
	uint32_t cut_short;  /* enum format_cut; a higher one is none */
	uint32_t
	    ragged; /* 1: a block could not be read when the table was made; an index may know more */
	uint8_t reserved[4096 - 72 - 8];
	uint64_t sum;
};
_Static_assert(sizeof(struct format_footer) == 4096, "footer");

#define FORMAT_CLOCKS_AT    (64u * 1024) /* of the first half */
#define FORMAT_CLOCKS_ALIGN 64u

struct format_lead {
	uint64_t magic;
	uint32_t version, reserved0;
	uint64_t
	    save; /* number of the save that wrote this half; its lowest bit says which half it is */
	uint64_t bytes; /* of chunks behind this page, a multiple of 4096 */
	uint8_t reserved[4096 - 32 - 8];
	uint64_t sum; /* XXH3-64, seeded with the store's id */
};
_Static_assert(sizeof(struct format_lead) == 4096, "the lead of a half");

struct format_clocks {
	uint32_t magic;
	uint32_t seg; /* number of the segment on its path */
	uint64_t generation;
	uint64_t save;
	uint64_t age;     /* segments of its stream with a lower one are recycled before it; ... */
	uint32_t rank;    /* ... those with the same age in the order of their ranks */
	uint32_t values;  /* so many clocks follow: all of the table's values, or none: all are 0 */
	uint32_t checked; /* in which pass of the scrub it was written, or verified last */
	uint32_t reserved;
	uint64_t sum; /* XXH3-64, seeded, of all above and the clocks */
};
_Static_assert(sizeof(struct format_clocks) == 56, "a chunk's header");
_Static_assert(offsetof(struct format_clocks, sum) == 48, "the checksum covers all before it");
_Static_assert(FORMAT_SEG_MIN >= FORMAT_CLOCKS_AT + 4 * sizeof(struct format_lead),
	       "room for halves");

#endif
