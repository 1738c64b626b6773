//go:build ignore

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The two ends of a wire with a director at its far end: what sends, and what
 * counts. The real servers of a test are told by their MAC addresses:
 *
 *	02 | kind | generation, 24 bits, high byte first | number
 *
 * and a stream of frames by the identification of its IP headers. Kind 1 are
 * servers that stay, kind 2 those of one generation.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char _license[] SEC("license") = "Dual MIT/GPL";

#define FRAME_WORDS 8 /* 64 bytes */
#define STREAMS 16
#define SERVERS 256
#define TRACKED 65536

/* Of one stream, set at load time. */
const volatile __u64 frame[FRAME_WORDS] = {};
const volatile __u32 first = 0;   /* the first client's address, host order */
const volatile __u32 clients = 1; /* they take turns */
const volatile __u32 fresh = 0;   /* each round of the clients has another port */

/*
 * The generations of kind 2 that may be in force: the older in the high half.
 * The generator stamps the older into the sequence number, and the collector
 * reads the newer: between the two was the packet's time.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} window SEC(".maps");

static __u64 in_force(void)
{
	__u32 zero = 0;
	__u64 *w = bpf_map_lookup_elem(&window, &zero);

	return w ? *(volatile __u64 *)w : 0;
}

/* A stream runs on one CPU at a time. */
__u32 at = 0;
__u16 rounds = 0;
__u64 sent = 0; /* counted here: the kernel may be interrupted and begin again */

/*
 * A page comes back from the collector as the director left it, so the whole
 * frame is written again.
 */
SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 *words = data;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);

	if (data + FRAME_WORDS * 8 > end)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < FRAME_WORDS; i++)
		words[i] = frame[i];
	ip->saddr = bpf_htonl(first + at);
	if (fresh)
		tcp->source = bpf_htons(1024 + rounds);
	if (ip->protocol == IPPROTO_TCP)
		tcp->seq = bpf_htonl(in_force() >> 32);
	if (++at >= clients) {
		at = 0;
		rounds++;
	}
	sent++;
	return XDP_TX;
}

/* What came back. Counted per CPU. */
struct tally {
	__u64 received[STREAMS];
	__u64 moved;     /* of a tracked client, from another server than before */
	__u64 elsewhere; /* to no server: second chances, answers of the kernel */
	__u64 opened[SERVERS]; /* SYNs, by the number of the server */
	__u64 outside; /* to a server of a generation that was not in force */
};

const struct tally *const tally_type = NULL;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

/* The server of each tracked client and one more than its number; 0: none yet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TRACKED);
	__type(key, __u32);
	__type(value, __u32);
} server_of SEC(".maps");

const volatile __u32 tracked = 0; /* the first tracked address, host order */

SEC("xdp")
int collect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u8 *mac = data;
	__u32 zero = 0, client, server, generation, *was;
	struct tally *t = bpf_map_lookup_elem(&tallies, &zero);

	if (!t)
		return XDP_ABORTED;
	if ((void *)(tcp + 1) > end || ((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IP))
		return XDP_DROP; /* the kernel's own, IPv6 neighbour discovery */
	if (mac[0] != 2 || (mac[1] != 1 && mac[1] != 2)) {
		t->elsewhere++;
		return XDP_DROP;
	}
	t->received[bpf_ntohs(ip->id) & (STREAMS - 1)]++;
	server = mac[5];
	if (mac[1] == 2) {
		generation = mac[2] << 16 | mac[3] << 8 | mac[4];
		if (generation < bpf_ntohl(tcp->seq) || generation > (__u32)in_force())
			t->outside++;
	}
	if (ip->protocol == IPPROTO_TCP && tcp->syn)
		t->opened[server & (SERVERS - 1)]++;
	client = bpf_ntohl(ip->saddr) - tracked;
	was = client < TRACKED ? bpf_map_lookup_elem(&server_of, &client) : NULL;
	if (was && *was != server + 1) {
		if (*was)
			t->moved++;
		*was = server + 1;
	}
	return XDP_DROP;
}
