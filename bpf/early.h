/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A fragment that overtook its first one. Nobody knows its port yet, so not
 * even whether it is for one of our services: it passes, since what is not ours
 * must not be lost here. The daemon gets a copy of it, and sends that on when
 * the first one has come and says where to.
 *
 * Who sends nothing but such fragments fills the buffer, and from then on a
 * copy costs no more than the attempt.
 */
#ifndef SYSTOLE_EARLY_H
#define SYSTOLE_EARLY_H

#include "fragment.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} early SEC(".maps");

/* What stands before the frame: where its datagram will be, if it is. */
struct early_record {
	struct key6 key;
	__u32 bucket[2]; /* of fragments */
	__u64 length;    /* of the frame: behind it stands what the kernel fills up with */
};

const struct early_record *const early_record_type __attribute__((unused)) = NULL;

#define EARLY_MAX 0x3fff /* bytes of a frame, more than XDP's have */

GLOBAL int keep_early(struct xdp_md *ctx, struct key6 *k)
{
	__u64 hash;
	struct early_record r;

	if (!k)
		return 0;
	hash = fragment_hash(k);
	r.key = *k;
	r.bucket[0] = first_choice6(hash, FRAGMENT_BUCKETS - 1);
	r.bucket[1] = second_choice6(hash, FRAGMENT_BUCKETS - 1);
	r.length = (ctx->data_end - ctx->data) & EARLY_MAX;
	return bpf_perf_event_output(ctx, &early, r.length << 32 | BPF_F_CURRENT_CPU, &r, sizeof(r));
}

#endif
