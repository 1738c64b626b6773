//go:build ignore

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The director's program with an eye on it: the same source, and around it
 * what tells user space of each packet how it came in, what the program
 * decided, and how it left. It takes the place of systole_xdp while somebody
 * looks, with the same maps; the packets that nobody looks at pay nothing.
 *
 * One packet begins and ends on one CPU without another between: so the
 * reasons that were counted meanwhile are its own.
 */
#include <linux/bpf.h>
#include <linux/in6.h>
#include <bpf/bpf_helpers.h>

#define SYSTOLE_OBSERVE 1
#define ENTRY static __always_inline int director

static __always_inline void observe_flow(__u32 before, __u32 after);
static __always_inline void observe_forward(__u32 id, __u32 connections);
static __always_inline void count(__u32 why);

#include "xdp.c"

/*
 * Neither a call nor a key on the stack: the deepest way through the program
 * (an ICMPv6 error) has none to spare for who is around it.
 */
static const volatile __u32 see_key = 0;

static __always_inline void count(__u32 why)
{
	struct reasons *r = bpf_map_lookup_elem(&reason_stats, (const void *)&see_key);

	if (r)
		r->count[why & 31]++;
}

#define SEE_SNAP_MAX 4096 /* bytes of one frame, at most: XDP's are in one page */
#define SEE_HEAD 256 /* of a frame, to judge it by: a power of two */

/* Not static: verified once, whatever the ways that lead to its calls. */
#define SEE_GLOBAL __attribute__((noinline))

/* What is to be seen. Constants of one load: what is not asked costs nothing. */
struct criteria {
	__u8 client[16]; /* IPv4 as the first four bytes */
	__u8 vip[16];
	__u16 client_port;    /* host byte order; 0: any */
	__u16 first_port;     /* of the service; both 0: any */
	__u16 last_port;
	__u8 client_family;   /* 4, 6; 0: any client */
	__u8 client_bits;     /* length of the prefix */
	__u8 vip_family;      /* 4, 6; 0: any service */
	__u8 protocol;        /* 0: any */
	__u8 server;          /* only what goes to those of see_servers */
	__u8 pad;
	__u32 verdicts;       /* bit set of enum xdp_action */
};

const volatile struct criteria see_filter = {};
const volatile __u64 see_servers[SERVER_IDS / 64] = {}; /* bit set of server ids */
const volatile __u32 see_snap = 128; /* bytes of a frame to keep */
const volatile __u8 see_in = 1;      /* the frame as it came in */
const volatile __u8 see_out = 1;     /* as it left */
const volatile __u64 see_rate = 1000; /* records per CPU and second */

/* One packet for user space; the bytes of the two frames follow. */
struct see_record {
	__u64 time;    /* ns, CLOCK_MONOTONIC */
	__u64 reasons; /* a bit for each that was counted */
	__u32 queue;   /* of the NIC */
	__u32 cpu;
	__u32 verdict; /* enum xdp_action */
	__u32 server;  /* id; 0: sent to none */
	__u8 before;   /* enum flow_state */
	__u8 after;    /* FLOW_FREE: no flow was used or made */
	__u8 scheduled;
	__u8 pad;
	__u32 ifindex; /* it came in by */
	__u32 in_length;
	__u32 out_length;
	__u32 in_kept;
	__u32 out_kept;
};

const struct see_record *const see_record_type __attribute__((unused)) = NULL;

/* What a frame is about, for the see_filter. Ports in host byte order. */
struct subject {
	__u8 client[16];
	__u8 vip[16];
	__u16 client_port;
	__u16 port;
	__u8 family; /* 0: not IP */
	__u8 protocol;
	__u8 ports; /* they are known */
};

struct see_scratch {
	__u64 seen;   /* this packet is to be told of */
	__u64 second; /* of the rate limit, ns */
	__u64 passed; /* records in it */
	__u64 before[32];
	__u8 head[SEE_HEAD];
	struct subject subject;
	struct see_record rec;
	__u8 data[2 * SEE_SNAP_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct see_scratch);
} see_scratch SEC(".maps");

static __always_inline struct see_scratch *seeing(void)
{
	return bpf_map_lookup_elem(&see_scratch, (const void *)&see_key);
}

/* What was not told, by why. */
struct see_lost {
	__u64 full; /* the buffer was */
	__u64 rate; /* above the limit */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct see_lost);
} see_losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} see_records SEC(".maps");

/* By a mask and not a branch: the verifier would follow both ways of each. */
static __always_inline __u8 byte(const struct see_scratch *s, __u32 at)
{
	return s->head[at & (SEE_HEAD - 1)];
}

static __always_inline __u16 half(const struct see_scratch *s, __u32 at)
{
	return (__u16)byte(s, at) << 8 | byte(s, at + 1);
}

static __always_inline void copy_addr(__u8 *to, const struct see_scratch *s, __u32 at, __u32 n)
{
	for (__u32 i = 0; i < n; i++)
		to[i] = byte(s, at + i);
}

/* Past the VLAN tags (IEEE 802.1Q, two at most): where IP is, and its type. */
static __always_inline __u32 see_network(const struct see_scratch *s, __u16 *type)
{
	__u32 at = 12;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		__u16 t = half(s, at);

		if (t == 0x8100 || t == 0x88a8)
			at += 4;
	}
	*type = half(s, at);
	return at + 2;
}

/*
 * The transport header: ports, or with an ICMP error the packet it quotes,
 * which is the server's: its destination is the client.
 */
SEE_GLOBAL int see_transport(__u32 at)
{
	struct see_scratch *s = seeing();
	__u32 type, quoted;
	struct subject *p;

	if (!s)
		return 0;
	p = &s->subject;
	if (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP || p->protocol == 132) {
		p->client_port = half(s, at);
		p->port = half(s, at + 2);
		p->ports = 1;
		return 0;
	}
	type = byte(s, at);
	quoted = at + 8;
	if (p->protocol == IPPROTO_ICMP && p->family == 4 &&
	    (type == 3 || type == 4 || type == 5 || type == 11 || type == 12)) {
		copy_addr(p->client, s, quoted + 16, 4);
		p->protocol = byte(s, quoted + 9);
		at = quoted + (byte(s, quoted) & 15) * 4;
	} else if (p->protocol == IPPROTO_ICMPV6 && p->family == 6 && type >= 1 && type <= 4) {
		copy_addr(p->client, s, quoted + 24, 16);
		p->protocol = byte(s, quoted + 6);
		at = quoted + 40;
	} else {
		return 0;
	}
	p->port = half(s, at);
	p->client_port = half(s, at + 2);
	p->ports = 1;
	return 0;
}

/* Reads the head: whom and what the frame is about. */
SEE_GLOBAL int see_subject(void)
{
	struct see_scratch *s = seeing();
	struct subject *p;
	__u16 type;
	__u32 at;

	if (!s)
		return 0;
	p = &s->subject;
	__builtin_memset(p, 0, sizeof(*p));

	at = see_network(s, &type);
	if (type == ETH_P_IP) {
		p->family = 4;
		p->protocol = byte(s, at + 9);
		copy_addr(p->client, s, at + 12, 4);
		copy_addr(p->vip, s, at + 16, 4);
		if (!(half(s, at + 6) & 0x1fff)) /* RFC 791: not the first fragment */
			see_transport(at + (byte(s, at) & 15) * 4);
	} else if (type == ETH_P_IPV6) {
		__u8 next = byte(s, at + 6);
		__u32 to = at + 40;
		int later = 0;

		p->family = 6;
		copy_addr(p->client, s, at + 8, 16);
		copy_addr(p->vip, s, at + 24, 16);
		/* Extension headers, RFC 8200 section 4. */
		for (int i = 0; i < 3; i++) {
			if (next == 44) {
				later = (half(s, to + 2) & 0xfff8) != 0;
				next = byte(s, to);
				to += 8;
			} else if (next == 0 || next == 43 || next == 60) {
				next = byte(s, to);
				to += 8 + (__u32)byte(s, to + 1) * 8;
			}
			if (to > SEE_HEAD - 8)
				return 0;
		}
		p->protocol = next;
		if (!later)
			see_transport(to);
	} else if (type == ETH_P_ARP) {
		/* Who asks, and for whom (RFC 826). */
		p->family = 4;
		copy_addr(p->client, s, at + 14, 4);
		copy_addr(p->vip, s, at + 24, 4);
	}
	return 0;
}

static __always_inline int same(const __u8 *a, const volatile __u8 *b, __u32 bits)
{
	__u8 differ = 0;

	for (__u32 i = 0; i < 16; i++) {
		__u32 rest = bits > i * 8 ? bits - i * 8 : 0;
		__u8 mask = rest >= 8 ? 0xff : (__u8)(0xff00 >> rest);

		differ |= (a[i] ^ b[i]) & mask;
	}
	return !differ;
}

SEE_GLOBAL int see_wanted(void)
{
	struct see_scratch *s = seeing();
	struct subject *p;

	if (!s)
		return 0;
	p = &s->subject;
	if (see_filter.client_family) {
		if (p->family != see_filter.client_family || !same(p->client, see_filter.client, see_filter.client_bits))
			return 0;
		if (see_filter.client_port && p->ports && p->client_port != see_filter.client_port)
			return 0;
	}
	if (see_filter.vip_family) {
		if (p->family != see_filter.vip_family || !same(p->vip, see_filter.vip, 128 /* what is behind an IPv4 address is zero */))
			return 0;
		if (see_filter.protocol && p->protocol != see_filter.protocol)
			return 0;
		if (see_filter.last_port && p->ports && (p->port < see_filter.first_port || p->port > see_filter.last_port))
			return 0;
	}
	return 1;
}

static __always_inline void observe_flow(__u32 before, __u32 after)
{
	struct see_scratch *s = seeing();

	if (s) {
		s->rec.before = before;
		s->rec.after = after;
	}
}

static __always_inline void observe_forward(__u32 id, __u32 connections)
{
	struct see_scratch *s = seeing();

	if (s) {
		s->rec.server = id;
		s->rec.scheduled = connections;
	}
}

/* The beginning of the frame into head; what is beyond its end is zero. */
static __always_inline void read_head(struct see_scratch *s, struct xdp_md *ctx)
{
	__u64 n = bpf_xdp_get_buff_len(ctx);

	__builtin_memset(s->head, 0, SEE_HEAD);
	if (n > SEE_HEAD)
		n = SEE_HEAD;
	/* Not n > 0: Linux 6.1 does not learn from it that n is not 0. */
	if (n >= ETH_HLEN)
		bpf_xdp_load_bytes(ctx, 0, s->head, n);
}

/* Keeps the frame behind what is kept already; returns how much of it. */
static __always_inline __u32 keep(struct see_scratch *s, struct xdp_md *ctx, __u64 at)
{
	__u64 n = bpf_xdp_get_buff_len(ctx);

	if (n > see_snap)
		n = see_snap;
	if (n > SEE_SNAP_MAX)
		n = SEE_SNAP_MAX;
	if (at > SEE_SNAP_MAX || n < ETH_HLEN)
		return 0;
	if (bpf_xdp_load_bytes(ctx, 0, s->data + at, n))
		return 0;
	return n;
}

SEE_GLOBAL int see_before(struct xdp_md *ctx)
{
	struct see_scratch *s = seeing();
	struct reasons *counts;
	__u32 zero = 0;

	if (!s)
		return 0;
	s->seen = 0;
	read_head(s, ctx);
	if (see_filter.client_family || see_filter.vip_family) {
		see_subject();
		if (!see_wanted())
			return 0;
	}
	counts = bpf_map_lookup_elem(&reason_stats, &zero);
	if (counts)
		for (__u32 i = 0; i < 32; i++)
			s->before[i] = counts->count[i];
	__builtin_memset(&s->rec, 0, sizeof(s->rec));
	s->rec.in_length = bpf_xdp_get_buff_len(ctx);
	if (see_in)
		s->rec.in_kept = keep(s, ctx, 0);
	s->seen = 1;
	return 0;
}

static __always_inline int below_rate(struct see_scratch *s, __u64 now)
{
	if (now - s->second >= 1000000000) {
		s->second = now;
		s->passed = 0;
	}
	return s->passed++ < see_rate;
}

SEE_GLOBAL int see_after(struct xdp_md *ctx, int verdict)
{
	struct see_scratch *s = seeing();
	struct reasons *counts;
	struct see_lost *lost;
	__u64 in, kept = 0;
	__u32 zero = 0;

	if (!s || !s->seen || !(see_filter.verdicts >> (verdict & 31) & 1))
		return 0;
	if (see_filter.server &&
	    !(see_servers[s->rec.server / 64 & (SERVER_IDS / 64 - 1)] >> (s->rec.server & 63) & 1))
		return 0;
	lost = bpf_map_lookup_elem(&see_losses, &zero);
	if (!lost)
		return 0;
	s->rec.time = bpf_ktime_get_ns();
	if (!below_rate(s, s->rec.time)) {
		lost->rate++;
		return 0;
	}
	counts = bpf_map_lookup_elem(&reason_stats, &zero);
	if (counts)
		for (__u32 i = 0; i < 32; i++)
			if (counts->count[i] != s->before[i])
				s->rec.reasons |= 1ULL << i;
	in = s->rec.in_kept;
	if (in > SEE_SNAP_MAX)
		in = SEE_SNAP_MAX;
	s->rec.out_length = bpf_xdp_get_buff_len(ctx);
	if (see_out)
		kept = keep(s, ctx, in);
	if (kept > SEE_SNAP_MAX)
		kept = SEE_SNAP_MAX;
	s->rec.out_kept = kept;
	s->rec.verdict = verdict;
	s->rec.cpu = bpf_get_smp_processor_id();
	s->rec.queue = ctx->rx_queue_index;
	s->rec.ifindex = ctx->ingress_ifindex;
	if (bpf_ringbuf_output(&see_records, &s->rec, sizeof(s->rec) + in + kept, 0))
		lost->full++;
	return 0;
}

SEC("xdp")
int systole_observe(struct xdp_md *ctx)
{
	int verdict;

	see_before(ctx);
	verdict = director(ctx);
	see_after(ctx, verdict);
	return verdict;
}
