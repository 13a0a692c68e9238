/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target for a segment's bytes: whatever they are, they are refused, or they are a segment of which
 * everything can be read and asked. If it is in order, its datoms are encoded again, and say the same.
 */
#include "base/assert.h"
#include "tests/unit/datoms_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void again(const struct segment *s)
{
	struct datom *d = malloc(s->n * sizeof *d), x;
	struct segment *other;
	size_t len, size;
	void *bytes;

	AN(d);
	for (uint32_t i = 0; i < s->n; i++)
		segment_datom(s, i, &d[i]);
	AZ(segment_encode(s->level, s->sort, d, s->child, s->n, &bytes, &len));
	AZ(segment_decode(bytes, len, &other, &size));
	for (uint32_t i = 0; i < s->n; i++) {
		segment_datom(other, i, &x);
		AZ(datom_compare(s->sort, &x, &d[i], DATOM_PARTS));
	}
	A(segment_ordered(other));
	segment_free(other);
	free(bytes);
	free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct segment *s;
	size_t size;
	int err = segment_decode(data, n, &s, &size);

	A(err == 0 || err == -EBADMSG);
	if (err != 0)
		return 0;
	(void)use_all(s);
	if (segment_ordered(s))
		again(s);
	segment_free(s);
	return 0;
}
