//go:build ignore

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A packet generator for BPF_PROG_TEST_RUN with live frames: they begin as the
 * frame that user space gives, go through `generate`, and then where the
 * program behind it sends them. The kernel uses their pages again, as they were
 * left: so the generator restores what a director may have changed (MAC
 * addresses; IPVS also the TTL) before it sets the client's port and jumps.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char _license[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} next SEC(".maps");

/* What the generator is to make; clients are ports from 1024 on. */
struct recipe {
	__u32 next;     /* client to come */
	__u32 clients;  /* how many take turns, a power of two */
	__u16 checksum; /* of the IP header */
	__u16 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recipe);
} recipe SEC(".maps");

/* Frames that came out of the other end of the cable. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sunk SEC(".maps");

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 *mac = data;
	struct iphdr *ip = data + ETH_HLEN;
	__be16 *port = (void *)(ip + 1);
	__u32 zero = 0;
	struct recipe *r = bpf_map_lookup_elem(&recipe, &zero);

	if ((void *)(port + 1) > end || !r)
		return XDP_ABORTED;
	mac[0] = 0x0002; /* 02:00:00:00:00:01 from 02:00:00:00:09:09 */
	mac[1] = 0;
	mac[2] = 0x0100;
	mac[3] = 0x0002;
	mac[4] = 0;
	mac[5] = 0x0909;
	ip->ttl = 64;
	ip->check = r->checksum;
	*port = bpf_htons(1024 + (r->next++ & (r->clients - 1)));
	bpf_tail_call(ctx, &next, 0);
	return XDP_ABORTED;
}

/* The floor: what the generator and the test run cost. */
SEC("xdp")
int drop(struct xdp_md *ctx)
{
	return ctx->ingress_ifindex == ~0U ? XDP_ABORTED : XDP_DROP;
}

/* The least that any program does which sends a frame back. */
SEC("xdp")
int swap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 *mac = data, old;

	if (data + ETH_HLEN > end)
		return XDP_ABORTED;
	for (int i = 0; i < 3; i++) {
		old = mac[i];
		mac[i] = mac[i + 3];
		mac[i + 3] = old;
	}
	return XDP_TX;
}

/* To the kernel, and to IPVS. */
SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return ctx->ingress_ifindex == ~0U ? XDP_ABORTED : XDP_PASS;
}

/* The other end of the cable. */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&sunk, &zero);

	if (n)
		__sync_fetch_and_add(n, ctx->data < ctx->data_end);
	return XDP_DROP;
}
