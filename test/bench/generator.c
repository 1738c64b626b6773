//go:build ignore

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A packet generator in front of the program under test. BPF_PROG_TEST_RUN
 * repeats on one buffer, which a director changes; so the generator restores
 * the MAC addresses and sets the client before each repetition, then jumps. The
 * two floors are jumped to in the same way: what they cost is not the
 * director's.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} next SEC(".maps");

/* Number of clients to go round; each has its own address. */
const volatile __u64 clients = 1;

/* Where four bytes of it stand in the frame: IPv4 without a VLAN tag. */
const volatile __u32 client_at = 26;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} turn SEC(".maps");

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 *mac = data, *client = data + client_at;
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&turn, &zero);

	if ((void *)(client + 1) > end || !n)
		return XDP_ABORTED;
	/*
	 * In words as wide as a program may read: the processor cannot forward
	 * two narrow stores to one wide load, a delay that no packet that came
	 * from a NIC has.
	 */
	mac[0] = 0x00000002; /* 02:00:00:00:00:01 from 02:00:00:00:09:09 */
	mac[1] = 0x00020100;
	mac[2] = 0x09090000;
	*n = *n + 1 < clients ? *n + 1 : 0;
	*client = 0x0000000a + (__u32)*n;
	bpf_tail_call(ctx, &next, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int floor_return(struct xdp_md *ctx)
{
	return ctx->ingress_ifindex == ~0U ? XDP_ABORTED : XDP_TX;
}

SEC("xdp")
int floor_swap(struct xdp_md *ctx)
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

/* Swaps as floor_swap does, and names a server that the collector counts. */
SEC("xdp")
int reflect(struct xdp_md *ctx)
{
	int verdict = floor_swap(ctx);
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 *mac = data;

	if (data + ETH_HLEN > end)
		return XDP_ABORTED;
	mac[0] = 0x0102; /* 02:01:.. */
	return verdict;
}
