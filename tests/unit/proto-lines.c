/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command and every malformed line: what the parser makes of it, whole, cut in two at every
 * byte, byte by byte, and cut at random. The errors are those of memcached 1.6.18.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/unit/proto_harness.h"

#define K50  "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define K250 K50 K50 K50 K50 K50
#define K251 K250 "k"
#define O31  "ooooooooooooooooooooooooooooooo"
#define BAD  "R:CLIENT_ERROR bad command line format;"
#define IMM  "R:SERVER_ERROR immutable: a stored value never changes;"
#define EXP  "R:CLIENT_ERROR invalid exptime argument;"
#define USE  "R:CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply];"
#define TOK  "R:CLIENT_ERROR bad token in command line format;"
#define DUP  "R:CLIENT_ERROR duplicate flag;"
#define INV  "R:CLIENT_ERROR invalid flag;"
#define IOD  "R:CLIENT_ERROR invalid or duplicate flag;"
#define DEC  "R:CLIENT_ERROR error decoding key;"
#define LONG "R:CLIENT_ERROR opaque token too long;"
#define V    "version;"
#define VER  "version\r\n"

static const struct {
	const char *in;
	const char *out;
} cases[] = {
    /* key lists */
    {"get a\r\n", "get a;END;"},
    {"get a\n", "get a;END;"},
    {"get a b c\r\n", "get a;get b;get c;END;"},
    {"gets  a   b  \r\n", "gets a;gets b;END;"},
    {"   get a\r\n", "get a;END;"},
    {"bget a\r\n", "get a;END;"},
    {"get a\r\r\n", "get a\\x0d;END;"},
    {"get a\tb\r\n", "get a\\x09b;END;"},
    {"get \r\r\n", "get \\x0d;END;"},
    {"gat 0 a b\r\n", "gat a;gat b;END;"},
    {"gats 100 a\r\n", "gats a;END;"},
    {"gat -1 a b\r\n", "gat! a;gat! b;END;"},
    {"gat 99999999999 a\r\n", "gat a;END;"},
    {"gat 1\r\n", "END;"},
    {"gat 1 \n", "END;"},
    {"gat 0 noreply\r\n", "gat noreply;END;"},
    {"get " K250 "\r\n", "get " K250 ";END;"},
    {"get " K250 " a\n", "get " K250 ";get a;END;"},
    {"get\r\n" VER, "R:ERROR;" V},
    {"get \r\n" VER, "R:ERROR;" V},
    {"gets\n" VER, "R:ERROR;" V},
    {"gat\r\n" VER, "R:ERROR;" V},
    {"gat x a\r\n" VER, EXP V},
    {"gat 9223372036854775808 a\r\n" VER, EXP V},
    {"get " K251 "\r\n" VER, BAD V},
    {"get a a a " K251 "\r\n" VER, BAD V},
    {"get a " K251 " b\r\n" VER, BAD V},
    {"gat 0 a " K251 "\r\n" VER, BAD V},
    {"get a\r\nget b\r\nget c\r\n", "get a;END;get b;END;get c;END;"},
    {"get a b\r\nget c\r\n", "get a;get b;END;get c;END;"},
    /* neither command nor words */
    {"\r\n" VER, "R:ERROR;" V},
    {"\n" VER, "R:ERROR;" V},
    {" \r\n" VER, "R:ERROR;" V},
    {"GET a\r\n" VER, "R:ERROR;" V},
    {"getx a\r\n" VER, "R:ERROR;" V},
    {"ge a\r\n" VER, "R:ERROR;" V},
    {"mnx\r\n" VER, "R:ERROR;" V},
    {"mz a\r\n" VER, "R:ERROR;" V},
    {"m\r\n" VER, "R:ERROR;" V},
    {"misbehave\r\n" VER, "R:ERROR;" V},
    {"\x81\r\n" VER, "R:ERROR;" V},
    {"\x16\x01\r\n" VER, "R:ERROR;" V},
    {"extstore x\r\n" VER, "R:ERROR;" V},
    /* set, add */
    {"set a 0 0 5\r\nhello\r\n", "set a f0 5:hello;"},
    {"add a 7 100 5\r\nhello\r\n" VER, "add a f7 5:hello;" V},
    {"set a 4294967295 0 0\r\n\r\n", "set a f4294967295 0:;"},
    {"set a 0 0 5 noreply\r\nhello\r\n" VER, "set/ a f0 5:hello;" V},
    {"set a 0 0 5 0\r\nhello\r\n", "set a f0 5:hello;"},
    {"set a 0 0 5 NOREPLY\r\nhello\r\n", "set a f0 5:hello;"},
    {"set a 0 0 2\r\n\r\n\r\n", "set a f0 2:\\x0d\\x0a;"},
    {"set a 0 0 010\r\n0123456789\r\n", "set a f0 10:0123456789;"},
    {"set a +1 +1 +1\r\n1\r\n", "set a f1 1:1;"},
    {"set a -0 0 -0\r\n\r\n", "set a f0 0:;"},
    {"set  a  0  0  1  \r\n1\r\n", "set a f0 1:1;"},
    {"set a 0 0 1\t\r\n1\r\n", "set a f0 1:1;"},
    {"set a 0 0 \t1\r\n1\r\n", "set a f0 1:1;"},
    {"set a 0 0 1\v5\r\n1\r\n", "set a f0 1:1;"},
    {"set a 0 -1 1\r\n1\r\n" VER, "set! a f0 1:drained;" V},
    {"set a 0 -1 1\r\n12\r\n" VER, "set! a f0 1:bad chunk;R:ERROR;" V},
    {"set a 0 -1 0\r\n\r\n" VER, "set! a f0 0:drained;" V},
    {"set a 0 0 1\r\n12\r\n" VER, "set a f0 1:bad chunk;R:ERROR;" V},
    {"set a 0 0 1\r\n1XY" VER, "set a f0 1:bad chunk;" V},
    {"set a 0 0 1\r\n1\n" VER, "set a f0 1:bad chunk;R:ERROR;"},
    {"set a 0 0 5 noreply\r\nhelloXX" VER, "set/ a f0 5:bad chunk;" V},
    {"set " K250 " 0 0 1\r\n1\r\n", "set " K250 " f0 1:1;"},
    {"set " K251 " 0 0 5\r\nhello\r\n" VER, BAD "R:ERROR;" V},
    {"set " K251 " 0 0 5 noreply\r\nhello\r\n" VER, "R:;R:ERROR;" V},
    {"set\r\n" VER, "R:ERROR;" V},
    {"set a\r\n" VER, "R:ERROR;" V},
    {"set a 0 0\r\n" VER, "R:ERROR;" V},
    {"set a 0 0 1 noreply x\r\n" VER, "R:ERROR;" V},
    {"set a 0 0 -1\r\n" VER, BAD V},
    {"set a 0 0 -1 noreply\r\n" VER, "R:;" V},
    {"set a 0 0 x\r\n" VER, BAD V},
    {"set a 0 0 1x\r\n" VER, BAD V},
    {"set a 0 0 0x1\r\n" VER, BAD V},
    {"set a 0 0 -\r\n" VER, BAD V},
    {"set a 0 0 2147483646\r\n" VER, BAD V},
    {"set a 0 0 2147483647\r\n" VER, BAD V},
    {"set a 0 0 4294967295\r\n" VER, BAD V},
    {"set a 0 0 4294967297\r\n" VER, BAD V},
    {"set a 0 0 18446744073709551617\r\n" VER, BAD V},
    {"set a 0 0 99999999999999999999999999\r\n" VER, BAD V},
    {"set a x 0 1\r\n" VER, BAD V},
    {"set a -1 0 1\r\n" VER, BAD V},
    {"set a 4294967296 0 1\r\n" VER, BAD V},
    {"set a 0 x 1\r\n" VER, BAD V},
    {"set a 0 2147483645\r\n" VER, "R:ERROR;" V},
    {"set a 0 0 2147483645\r\n" VER, "set a f0 2147483645:too large;"},
    /* what would change a value */
    {"replace a 0 0 5\r\nhello\r\n" VER, IMM V},
    {"append a 0 0 5 noreply\r\nhello\r\n" VER, "R:;" V},
    {"prepend a 0 0 5\r\nhelloXX" VER, "R:CLIENT_ERROR bad data chunk;" V},
    {"append a 0 0 5 noreply\r\nhelloXX" VER, "R:;" V},
    {"prepend a 0 0 x\r\n" VER, BAD V},
    {"replace a 0 0 0\r\n\r\n" VER, IMM V},
    {"replace a 0 0 2\r\n\r\n\r\n" VER, IMM V},
    {"cas a 0 0 5 1\r\nhello\r\n" VER, IMM V},
    {"cas a 0 0 5 1 noreply\r\nhello\r\n" VER, "R:;" V},
    {"cas a 0 0 1\r\n" VER, "R:ERROR;" V},
    {"cas a 0 0 1 x\r\n" VER, BAD V},
    {"cas a 0 0 1 -1\r\n" VER, BAD V},
    {"cas a 0 0 1 18446744073709551616\r\n" VER, BAD V},
    {"cas a 0 0 1 18446744073709551615\r\n1\r\n" VER, IMM V},
    {"cas a 0 0 1 noreply\r\n" VER, "R:;" V},
    {"cas a 0 0 1 1 noreply x\r\n" VER, "R:ERROR;" V},
    {"incr a 1\r\n" VER, IMM V},
    {"incr a 18446744073709551615\t-\r\n" VER, "R:CLIENT_ERROR invalid numeric delta argument;" V},
    {"incr a 9223372036854775807\t-\r\n" VER, IMM V},
    {"decr a 1 noreply\r\n" VER, "R:;" V},
    {"incr a\r\n" VER, "R:ERROR;" V},
    {"incr a 1 2 3\r\n" VER, "R:ERROR;" V},
    {"incr a x\r\n" VER, "R:CLIENT_ERROR invalid numeric delta argument;" V},
    {"incr a -1\r\n" VER, "R:CLIENT_ERROR invalid numeric delta argument;" V},
    {"incr a 18446744073709551616\r\n" VER, "R:CLIENT_ERROR invalid numeric delta argument;" V},
    {"incr " K251 " 1\r\n" VER, BAD V},
    /* touch, delete, flush_all */
    {"touch a 0\r\n", "touch a;"},
    {"touch a -1\r\n", "touch! a;"},
    {"touch a -1 noreply\r\n", "touch!/ a;"},
    {"touch a 1 2\r\n", "touch a;"},
    {"touch a 9223372036854775807\r\n", "touch a;"},
    {"touch a\r\n" VER, "R:ERROR;" V},
    {"touch a 1 2 3\r\n" VER, "R:ERROR;" V},
    {"touch a x\r\n" VER, EXP V},
    {"touch a 9223372036854775808\r\n" VER, EXP V},
    {"touch " K251 " 0\r\n" VER, BAD V},
    {"delete a\r\n", "delete a;"},
    {"delete a 0\r\n", "delete a;"},
    {"delete a noreply\r\n", "delete/ a;"},
    {"delete a 0 noreply\r\n", "delete/ a;"},
    {"delete\r\n" VER, "R:ERROR;" V},
    {"delete a b\r\n" VER, USE V},
    {"delete a 1\r\n" VER, USE V},
    {"delete a 0 x\r\n" VER, USE V},
    {"delete a 0 0\r\n" VER, USE V},
    {"delete a x noreply\r\n" VER, "R:;" V},
    {"delete a 0 noreply x\r\n" VER, "R:ERROR;" V},
    {"delete " K251 "\r\n" VER, BAD V},
    {"delete " K251 " noreply\r\n" VER, "R:;" V},
    {"flush_all\r\n", "flush_all 0;"},
    {"flush_all 10\r\n", "flush_all 10;"},
    {"flush_all -1\r\n", "flush_all -1;"},
    {"flush_all noreply\r\n", "flush_all/ 0;"},
    {"flush_all 10 noreply\r\n", "flush_all/ 10;"},
    {"flush_all 1 2\r\n", "flush_all 1;"},
    {"flush_all 1 2 3\r\n" VER, "R:ERROR;" V},
    {"flush_all x\r\n" VER, EXP V},
    {"flush_all x noreply\r\n" VER, "R:;" V},
    /* service */
    {"version\r\n", "version;"},
    {"version x y z\r\n", "version;"},
    {"verbosity 1\r\n", "verbosity 1;"},
    {"verbosity 1 2\r\n", "verbosity 1;"},
    {"verbosity 1 noreply\r\n", "verbosity/ 1;"},
    {"verbosity\r\n" VER, "R:ERROR;" V},
    {"verbosity 1 2 3\r\n" VER, "R:ERROR;" V},
    {"verbosity x\r\n" VER, BAD V},
    {"verbosity noreply\r\n" VER, "R:;" V},
    {"stats\r\n", "stats ();"},
    {"stats settings\r\n", "stats (settings);"},
    {"stats  cachedump 1  2 \r\n", "stats (cachedump 1  2);"},
    {"stats reset\r\n", "stats reset;"},
    {"stats reset all \r\n", "stats reset;"},
    {"stats resets\r\n", "stats (resets);"},
    {"quit\r\n", "quit;"},
    {"quit x y z\r\n", "quit;"},
    {"shutdown\r\n" VER, "R:ERROR: shutdown not enabled;" V},
    {"shutdown x y\r\n" VER, "R:ERROR: shutdown not enabled;" V},
    {"lru_crawler metadump all\r\n", "lru_crawler metadump;"},
    {"lru_crawler metadump hash\r\n", "lru_crawler metadump;"},
    {"lru_crawler metadump 1,2\r\n" VER, "R:BADCLASS invalid class id;" V},
    {"lru_crawler metadump\r\n" VER, "R:ERROR;" V},
    {"lru_crawler metadump all x\r\n" VER, "R:ERROR;" V},
    {"lru_crawler mgdump all\r\n" VER, "R:ERROR;" V},
    {"lru_crawler\r\n" VER, "R:ERROR;" V},
    {"lru_crawler enable\r\n" VER, "R:ERROR failed to start lru crawler thread;" V},
    {"lru_crawler disable\r\n" VER, "R:OK;" V},
    {"lru_crawler sleep 1000000\r\n" VER, "R:OK;" V},
    {"lru_crawler sleep 1000001\r\n" VER, "R:CLIENT_ERROR sleep must be one second or less;" V},
    {"lru_crawler crawl all\r\n" VER, "R:CLIENT_ERROR lru crawler disabled;" V},
    {"lru_crawler sleep 1\r\n" VER, "R:OK;" V},
    {"lru_crawler tocrawl x\r\n" VER, BAD V},
    {"cache_memlimit 64\r\n", "cache_memlimit 64;"},
    {"cache_memlimit 64 noreply\r\n", "cache_memlimit/ 64;"},
    {"cache_memlimit\r\n" VER, "R:ERROR;" V},
    {"cache_memlimit x\r\n" VER, "R:ERROR;" V},
    {"cache_memlimit x noreply\r\n" VER, "R:;" V},
    {"cache_memlimit 64 noreply x\r\n" VER, "R:ERROR;" V},
    {"cache_memlimit 1\r\n" VER, "R:MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m;" V},
    {"cache_memlimit 9999999999999\r\n" VER,
     "R:MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes;" V},
    {"path\r\n" VER, "R:ERROR;" V},
    {"path offline 0\r\n" VER, "R:ERROR;" V},
    {"path online\r\n" VER, "R:ERROR;" V},
    {"path online 0 1\r\n" VER, "R:ERROR;" V},
    {"path online x\r\n" VER, BAD V},
    {"path online -1\r\n" VER, BAD V},
    {"path online 3\r\n" VER, "path online 3;" V},
    {"slabs reassign 1 2\r\n" VER, "R:CLIENT_ERROR slab reassignment disabled;" V},
    {"slabs automove 0\r\n" VER, "R:OK;" V},
    {"slabs automove 1\r\n" VER, "R:OK;" V},
    {"slabs automove 2 noreply\r\n" VER, "R:;" V},
    {"slabs automove 3\r\n" VER, "R:ERROR;" V},
    {"slabs automove x noreply\r\n" VER, "R:;" V},
    {"slabs automove x\r\n" VER, BAD V},
    {"slabs\r\n" VER, "R:ERROR;" V},
    {"lru x y\r\n" VER, "R:ERROR;" V},
    {"lru mode flat noreply\r\n" VER, "R:;" V},
    {"lru mode flat\r\n" VER, "R:CLIENT_ERROR the store has no slab LRUs;" V},
    {"lru\r\n" VER, "R:ERROR;" V},
    {"watch noreply\r\n" VER, "R:;" V},
    {"watch\r\n" VER, "R:CLIENT_ERROR watch commands not allowed;" V},
    {"refresh_certs\r\n" VER, "refresh_certs;" V},
    /* meta */
    {"mn\r\n", "mn;"},
    {"mn x\r\n", "mn;"},
    {"mg a\r\n", "mg a [];"},
    {"mg a v\r\n", "mg a [] v;"},
    {"mg a v s t f h l k Oxx q c N30 R30 T0 u\r\n", "mg~ a [stfhlkOc] Oxx v;"},
    {"mg a q\r\n", "mg~ a [];"},
    {"mg a O\r\n", "mg a [O] O;"},
    {"mg a O" O31 "\r\n", "mg a [O] O" O31 ";"},
    {"mg a T-1 v\r\n", "mg! a [] v;"},
    {"mg a C1 D1 J1 MX F1 I P/x L/y E7\r\n", "mg a [];"},
    {"mg a vxyz\r\n", "mg a [] v;"},
    {"mg YQ== b k v\r\n", "mg a [k] b64 v;"},
    {"mg YQ== k b v\r\n", "mg a [k] b64 v;"},
    {"mg YR== b\r\n", "mg a [] b64;"},
    {"mg gA== b\r\n", "mg \\x80 [] b64;"},
    {"mg " K250 "\r\n", "mg " K250 " [];"},
    {"mg\r\n" VER, "R:ERROR;" V},
    {"mg " K251 "\r\n" VER, BAD V},
    {"mg " K251 " q\r\n" VER, BAD V},
    {"mg a v v\r\n" VER, DUP V},
    {"mg a v v !\r\n" VER, DUP V},
    {"mg a !\r\n" VER, INV V},
    {"mg a 1\r\n" VER, INV V},
    {"mg a S1\r\n" VER, INV V},
    {"mg a \x7f\r\n" VER, DUP V},
    {"mg a \xff\r\n" VER, DUP V},
    {"mg a N\r\n" VER, TOK V},
    {"mg a Tx\r\n" VER, TOK V},
    {"mg a Rx\r\n" VER, TOK V},
    {"mg a Cx\r\n" VER, TOK V},
    {"mg a F\r\n" VER, BAD V},
    {"mg a Fx\r\n" VER, BAD V},
    {"mg a Fx Tx\r\n" VER, TOK V},
    {"mg a Tx Fx\r\n" VER, TOK V},
    {"mg a Tx !\r\n" VER, INV V},
    {"mg a M\r\n" VER, "R:CLIENT_ERROR incorrect length for M token;" V},
    {"mg a MXX\r\n" VER, "R:CLIENT_ERROR incorrect length for M token;" V},
    {"mg a Dx\r\n" VER, "R:CLIENT_ERROR invalid numeric delta value;" V},
    {"mg a Jx\r\n" VER, "R:CLIENT_ERROR invalid numeric initial value;" V},
    {"mg a O" O31 "o\r\n" VER, LONG V},
    {"mg a q O" O31 "o\r\n" VER, LONG V},
    {"mg YQ= b\r\n" VER, DEC V},
    {"mg YQ b\r\n" VER, DEC V},
    {"mg Y!== b\r\n" VER, DEC V},
    {"mg ==== b\r\n" VER, DEC V},
    {"mg a v s t f h l k q c Pp Ll O1 u C1 D1 J1 F1\r\n", "mg~ a [stfhlkcO] O1 v;"},
    {"mg a v s t f h l k q c Pp Ll O1 u C1 D1 J1 F1 I\r\n" VER,
     "R:CLIENT_ERROR options flags are too long;" V},
    {"ms a 2\r\nab\r\n", "ms a [] f0 2:ab;"},
    {"ms a 2 c k O1 s q F7 T0 I E5\r\nab\r\n", "ms~ a [ckOs] O1 f7 2:ab;"},
    {"ms a 2 ME\r\nab\r\n", "ms a [] add f0 2:ab;"},
    {"ms a 2 ME C1\r\nab\r\n", "ms a [] add f0 2:ab;"},
    {"ms a 2 MS\r\nab\r\n", "ms a [] f0 2:ab;"},
    {"ms a 2 T-1\r\nab\r\n" VER, "ms! a [] f0 2:drained;" V},
    {"ms YQ== 2 b k\r\nab\r\n", "ms a [k] b64 f0 2:ab;"},
    {"ms a 0\r\n\r\n", "ms a [] f0 0:;"},
    {"ms a 2\nab\r\n", "ms a [] f0 2:ab;"},
    {"ms a 2 q\r\nabcd\r\n" VER, "ms~ a [] f0 2:bad chunk;R:ERROR;" V},
    {"ms a 2001\r\n" VER, "ms a [] f0 2001:too large;"},
    {"ms\r\n" VER, "R:ERROR;" V},
    {"ms a\r\n" VER, BAD V},
    {"ms a S2\r\nab\r\n" VER, BAD "R:ERROR;" V},
    {"ms a x\r\n" VER, BAD V},
    {"ms a -1\r\n" VER, BAD V},
    {"ms a 2147483646\r\n" VER, BAD V},
    {"ms " K251 " 2\r\nab\r\n" VER, BAD "R:ERROR;" V},
    {"ms a b 2\r\nab\r\n" VER, BAD "R:ERROR;" V},
    {"ms a 2 F\r\nab\r\n" VER, BAD V},
    {"ms a 2 Fx\r\nab\r\n" VER, BAD V},
    {"ms a 2 F4294967296\r\nab\r\n" VER, BAD V},
    {"ms a 2 q !\r\nab\r\n" VER, INV V},
    {"ms a 2 v v\r\nab\r\n" VER, DUP V},
    {"ms a 2 v v\r\nabXX" VER, DUP V},
    {"ms a 2 Cx\r\nab\r\n" VER, TOK V},
    {"ms a 2 Ma\r\nab\r\n" VER, "R:CLIENT_ERROR invalid mode for ms M token;" V},
    {"ms a 2 Ma O" O31 "o\r\nab\r\n" VER, "R:CLIENT_ERROR invalid mode for ms M token;" V},
    {"ms a 2 MEE\r\nab\r\n" VER, "R:CLIENT_ERROR incorrect length for M token;" V},
    {"ms a 2 q O" O31 "o\r\nab\r\n" VER, LONG V},
    {"ms YQ= 2 b\r\nab\r\n" VER, DEC V},
    {"ms a 2 MA\r\nab\r\n" VER, IMM V},
    {"ms a 2 MP q\r\nab\r\n" VER, IMM V},
    {"ms a 2 MR\r\nabXX" VER, "R:CLIENT_ERROR bad data chunk;" V},
    {"ms a 2 C1\r\nab\r\n" VER, IMM V},
    {"ms a 2 MS C1\r\nab\r\n" VER, IMM V},
    {"ms a 2 v s t f h l k q c Pp Ll O1 u I D1 J1\r\nab\r\n", "ms~ a [skcO] O1 f0 2:ab;"},
    {"ms a 2 v s t f h l k q c Pp Ll O1 u I D1 J1 E1\r\n" VER,
     "R:CLIENT_ERROR options flags too long;" V},
    {"md a\r\n", "md a [];"},
    {"md a q k O1\r\n", "md~ a [kO] O1;"},
    {"md a C5\r\n", "md a [] C5;"},
    {"md a C+5 I T30\r\n", "md a [] C5;"},
    {"md a I T-1\r\n", "md a [];"},
    {"md a x\r\n" VER, IMM V},
    {"md\r\n" VER, "R:ERROR;" V},
    {"md a v v\r\n" VER, IOD V},
    {"md a Cx\r\n" VER, IOD V},
    {"md a C-1\r\n" VER, IOD V},
    {"md a !\r\n" VER, IOD V},
    {"md !!!! b\r\n" VER, IOD V},
    {"md a O" O31 "o\r\n" VER, LONG V},
    {"md " K251 " q\r\n" VER, BAD V},
    {"ma a\r\n" VER, IMM V},
    {"ma a q v\r\n" VER, IMM V},
    {"ma\r\n" VER, "R:ERROR;" V},
    {"ma a MX\r\n" VER, "R:CLIENT_ERROR invalid mode for ma M token;" V},
    {"ma a Dx\r\n" VER, IOD V},
    {"ma " K251 "\r\n" VER, BAD V},
    {"me a\r\n", "me a [];"},
    {"me a x y z\r\n", "me a [];"},
    {"me YQ== b\r\n", "me a [] b64;"},
    {"me\r\n" VER, BAD V},
    {"me a b\r\n" VER, BAD V},
    {"me " K251 "\r\n" VER, BAD V},
    /* other protocols' greetings */
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HANGUP;"},
    {"POST / HTTP/1.1\r\n" VER, "HANGUP;"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HANGUP;"},
    {"get / HTTP/1.1\r\n" VER, "get /;get HTTP/1.1;END;" V},
    {"gex / HTTP/1.1\r\n" VER, "R:ERROR;" V},
    {"mz / HTTP/1.1\r\n" VER, "R:ERROR;" V},
    {"x HTTP/1.1\r\n" VER, "R:ERROR;" V},
    {"xx HTTP/1.1\r\n", "HANGUP;"},
    {"FOO HTTP/1.1 x\r\n" VER, "R:ERROR;" V},
    {"\x16\x03\x01\r\n", "HANGUP;"},
    {VER "\x80\x0b\n" VER, V "R:ERROR;" V},
    {"get a", ""},
    {"", ""},
};

static void run(const char *s, size_t n, const size_t *cuts, size_t ncuts, const char *want)
{
	struct harness h;
	size_t at = 0;

	h_open(&h);
	for (size_t i = 0; i < ncuts; i++) {
		h_feed(&h, s + at, cuts[i] - at);
		at = cuts[i];
	}
	h_feed(&h, s + at, n - at);
	if (strcmp(h.out, want) != 0)
		print_error("input %s\n(%zu cuts, the first at %zu)\n", s, ncuts,
			    ncuts > 0 ? cuts[0] : 0);
	assert_string_equal(h.out, want);
	assert_in_range(h.leftover_max, 0, PROTO_LINE_MAX);
	h_close(&h);
}

static void whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		run(cases[i].in, strlen(cases[i].in), NULL, 0, cases[i].out);
}

static void cut_at_every_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (size_t c = 1; c < strlen(cases[i].in); c++)
			run(cases[i].in, strlen(cases[i].in), &c, 1, cases[i].out);
}

static void byte_by_byte(void **state)
{
	size_t cuts[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(cuts) / sizeof(*cuts); i++)
		cuts[i] = i + 1;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t n = strlen(cases[i].in);

		run(cases[i].in, n, cuts, n > 0 ? n - 1 : 0, cases[i].out);
	}
}

/* All lines that do not hang up, after one another, as a deep pipeline, cut at random. */
static void pipelined(void **state)
{
	size_t cap = 1 << 20, n = 0, m = 0;
	char *in = malloc(cap), *want = malloc(cap);
	unsigned seed = 1;

	(void)state;
	assert_non_null(in);
	assert_non_null(want);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *s = cases[i].in, *o = cases[i].out;

		/* Left out: cases whose last block or line has no end. */
		if (strstr(o, "HANGUP") != NULL || strstr(o, "too large") != NULL || o[0] == '\0' ||
		    s[strlen(s) - 1] != '\n')
			continue;
		memcpy(in + n, s, strlen(s));
		n += strlen(s);
		memcpy(want + m, o, strlen(o));
		m += strlen(o);
	}
	in[n] = want[m] = '\0';
	assert_true(n > 4000);
	run(in, n, NULL, 0, want);
	for (unsigned round = 0; round < 50; round++) {
		size_t cuts[4096], k = 0, at = 0;

		while (k < sizeof(cuts) / sizeof(*cuts)) {
			at += (size_t)rand_r(&seed) % (round + 2) * 3 + 1;
			if (at >= n)
				break;
			cuts[k++] = at;
		}
		run(in, n, cuts, k, want);
	}
	free(in);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(whole),
	    cmocka_unit_test(cut_at_every_byte),
	    cmocka_unit_test(byte_by_byte),
	    cmocka_unit_test(pipelined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
