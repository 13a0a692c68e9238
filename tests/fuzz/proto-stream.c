/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for the protocol parser. Any bytes: no crash, no endless loop, bounded
 * leftovers, and for streams that fit in one line's limit the same outcome whole, cut in pieces and
 * byte by byte. `make fuzz` builds and runs it with proto-stream.dict and proto-stream.corpus/.
 */
#include "tests/unit/proto_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void feed(struct harness *h, const char *s, size_t n, uint32_t seed, size_t step)
{
	size_t at = 0;

	h_open(h);
	while (at < n) {
		size_t k;

		seed = seed * 1664525u + 1013904223u;
		k = step != 0 ? step : 1 + (seed >> 16) % 64;
		if (k > n - at)
			k = n - at;
		h_feed(h, s + at, k);
		at += k;
	}
	A(h->leftover_max <= PROTO_LINE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *s = (const char *)data;
	struct harness whole, cut;
	uint32_t seed = (uint32_t)n;

	for (size_t i = 0; i < n; i++)
		seed = seed * 31 + data[i];
	feed(&whole, s, n, 0, n);
	for (size_t step = 0; step < 2; step++) {
		feed(&cut, s, n, seed, step);
		if (n <= PROTO_LINE_MAX)
			A(strcmp(whole.out, cut.out) == 0);
		h_close(&cut);
	}
	h_close(&whole);
	return 0;
}
