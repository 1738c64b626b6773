/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Several interfaces: a real server, or a peer, may be behind another one than
 * that a packet came in by.
 *
 * With one interface nothing of this is ever reached. With several the servers
 * have no MAC address in generation.servers but one in generation.far, and no
 * frame is for generation.own, which is zero then. So the questions that are
 * asked of each packet cost what they did with one, and lead here.
 *
 * A frame that leaves by the interface it came in by is XDP_TX, by another one
 * XDP_REDIRECT; it bears the MAC address of the interface it leaves by, and the
 * VLAN tags it came with.
 */
#ifndef SYSTOLE_EGRESS_H
#define SYSTOLE_EGRESS_H

#include "maps.h"
#include "parse.h"

#define MAC_BITS 0xffffffffffffULL

/* What a call clobbers is put aside on this way, and not on the other one. */
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* By interface index: what a program redirects to must be in a map. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 2 * MAX_DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} egress_devices SEC(".maps");

/* What went through an interface that was forwarded. */
struct port_counters {
	__u64 in_packets;
	__u64 in_bytes; /* of IP */
	__u64 out_packets;
	__u64 out_bytes;
};

struct port_stats {
	struct port_counters port[MAX_PORTS];
};

/* Of several interfaces only; one interface's are those of its servers. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct port_stats);
} port_stats SEC(".maps");

/* No key on the stack, of which the deepest way through the program has little. */
static const volatile __u32 egress_key = 0;

static __always_inline void count_egress(__u32 why)
{
	struct reasons *r = bpf_map_lookup_elem(&reason_stats, (const void *)&egress_key);

	if (r)
		r->count[why & 31]++;
}

/* The device that a packet came in by, or NULL. */
static __always_inline struct device *came_by(struct generation *g, __u32 ifindex)
{
	for (__u32 i = 0; i < MAX_DEVICES && i < g->ndevices; i++)
		if (g->devices[i & (MAX_DEVICES - 1)].ifindex == ifindex)
			return &g->devices[i & (MAX_DEVICES - 1)];
	return NULL;
}

/* Whether a frame is for the MAC address of the interface it came in by. */
GLOBAL int came_for_us(struct xdp_md *ctx, struct generation *g)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct device *d;

	if (!g || data + ETH_HLEN > end)
		return 0;
	d = came_by(g, ctx->ingress_ifindex);
	return d && same_mac(data, g->ports[d->port & (MAX_PORTS - 1)].mac);
}

static __always_inline int for_us(struct xdp_md *ctx, struct generation *g,
				  const struct ethhdr *eth)
{
	if (UNLIKELY(!same_mac(eth->h_dest, g->own.addr)))
		return UNLIKELY(g->ndevices) && came_for_us(ctx, g);
	return 1;
}

/*
 * Sends a frame to a MAC address by an interface: to is a struct far. A server's
 * packet is counted as such here, since who comes here did not count it: what
 * has its id (0: the peer), a bit if it was scheduled, and the bytes.
 *
 * It calls no function, and few variables live long: the deepest way through the
 * program comes by here, and has little stack left.
 */
#define EGRESS_SCHEDULED (1ULL << 31)
#define EGRESS_WHAT(id, connections, bytes) \
	((__u64)(bytes) << 32 | ((connections) ? EGRESS_SCHEDULED : 0) | (id))

static __always_inline int send_by(struct xdp_md *ctx, struct generation *g, __u64 to,
				   __u64 what)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 via = to >> 48, id = what & (SERVER_IDS - 1), in, out;
	struct port_stats *stats;
	struct counters *c;
	struct device *d;
	__u32 *frame = data;
	int verdict = XDP_TX;
	__u64 own;

	if (data + ETH_HLEN > end)
		return XDP_PASS;
	if (!(to & MAC_BITS)) {
		/* The flow stays where it is; TCP will try again. */
		count_egress(REASON_NO_MAC);
		return XDP_DROP;
	}
	if (via == VIA_NONE) {
		count_egress(REASON_OTHER_INTERFACE);
		return XDP_PASS;
	}
	d = came_by(g, ctx->ingress_ifindex);
	if (!d)
		return XDP_PASS; /* for_us() has said no */
	in = d->port & (MAX_PORTS - 1);
	out = via < VIA_PORT ? in : (via - VIA_PORT) & (MAX_PORTS - 1);
	if (out != in && d->native && !g->ports[out].native) {
		/* Its driver takes no frame from another one. */
		count_egress(REASON_NO_REDIRECT);
		return XDP_PASS;
	}
	own = READ_ONCE(*(const __u64 *)&g->ports[out]);
	frame[0] = to;
	frame[1] = (to >> 32 & 0xffff) | own << 16;
	frame[2] = own >> 16;
	if (out != in) {
		verdict = bpf_redirect_map(&egress_devices, g->ports[out].ifindex, XDP_DROP);
		if (verdict != XDP_REDIRECT) {
			count_egress(REASON_INTERFACE_GONE);
			return XDP_DROP;
		}
	}

	stats = bpf_map_lookup_elem(&port_stats, (const void *)&egress_key);
	if (stats) {
		stats->port[in & (MAX_PORTS - 1)].in_packets++;
		stats->port[in & (MAX_PORTS - 1)].in_bytes += what >> 32;
		stats->port[out & (MAX_PORTS - 1)].out_packets++;
		stats->port[out & (MAX_PORTS - 1)].out_bytes += what >> 32;
	}
	if (!id)
		return verdict;
	c = bpf_map_lookup_elem(&server_stats, &id);
	if (c) {
		c->packets++;
		c->bytes += what >> 32;
		c->connections += (what & EGRESS_SCHEDULED) != 0;
	}
	return verdict;
}

/* Sends a frame to the server without a MAC that what names, or to the first peer. */
GLOBAL int egress(struct xdp_md *ctx, struct generation *g, __u64 what)
{
	__u32 id = what & (SERVER_IDS - 1);
	__u64 to;

	if (!g)
		return XDP_PASS;
	to = READ_ONCE(*(const __u64 *)(id ? (void *)&g->far[id] : (void *)&g->peers[0]));
	return send_by(ctx, g, to, what);
}

#endif
