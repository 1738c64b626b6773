//go:build ignore

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The director's data plane. Each packet meets these questions in this order;
 * the packet tests are the list of the answers.
 *
 *	for one of our virtual addresses?  no: pass
 *	for our MAC?                       no: pass (flooded by a switch)
 *	lease ended?                       drop, unless a peer asks for a flow
 *	a configured service?              no: pass
 *	our address (role)?                no: pass, unless a peer asks for a flow
 *	a flow with a live server?         forward
 *	opens a connection?                schedule (or as quic.h says), store, forward
 *	otherwise                          second chance at a peer, or pass
 *
 * IPv6 (ipv6.h) is asked the same by a function of its own. Up to two VLAN tags
 * stay as they are. Later fragments (fragment.h) go where their first one went,
 * ICMP errors (icmp.h) to the server of the flow they quote. With several
 * interfaces a frame may leave by another one (egress.h); what is for a server
 * behind a tunnel gets an outer header last (tunnel.h).
 *
 * Most packets get the same answers by a short cut (fast.h).
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "consts.h"
#include "maps.h"
#include "observe.h"
#include "parse.h"
#include "schedule.h"
#include "fast.h"
#include "flow.h"
#include "limit.h"
#include "persist.h"
#include "forward.h"
#include "icmp.h"
#include "ipv6.h"
#include "later.h"
#include "lease.h"
#include "quic.h"
#include "tunnel.h"

char _license[] SEC("license") = "Dual MIT/GPL";

/* Types that only user space spells out: naming them here puts them into BTF. */
const enum layout *const layout_type = NULL;
const enum flow_state *const flow_state_type = NULL;
const enum role *const role_type = NULL;
const enum service_flags *const service_flags_type = NULL;
const enum reason *const reason_type = NULL;
const enum via *const via_type = NULL;
const enum tunnel_kind *const tunnel_kind_type = NULL;

/* An Ethernet ARP request for an IPv4 address, RFC 826. */
struct arp4 {
	__be16 htype;
	__be16 ptype;
	__u8 hlen;
	__u8 plen;
	__be16 op;
	__u8 sha[6];
	__u8 spa[4];
	__u8 tha[6];
	__u8 tpa[4];
};

static __always_inline __be32 load_addr(const __u8 *a)
{
	const __u16 *h = (const __u16 *)a;

	return (__u32)h[1] << 16 | h[0];
}

/*
 * The kernel answers for every address it has, also after the daemon's death.
 * It must not see a request for a virtual address that may be another
 * director's by now. Announcements (sender and target are the same address)
 * ask nothing and pass; but another's may be the end of our lease.
 */
static __always_inline int arp(struct state *s, struct generation *g, void *at, void *end)
{
	struct arp4 *a = at;
	struct vip *v;

	if (at + sizeof(*a) > end)
		return XDP_PASS;
	if (a->htype != bpf_htons(1) || a->ptype != bpf_htons(ETH_P_IP) || a->hlen != 6 ||
	    a->plen != 4)
		return XDP_PASS;
	v = vip_place(g, load_addr(a->tpa));
	if (!is_vip(v, load_addr(a->tpa)))
		return XDP_PASS;
	if (load_addr(a->spa) == load_addr(a->tpa)) {
		if (v->role == ROLE_ACTIVE && !same_mac(a->sha, g->own.addr))
			another_owner(s);
		return XDP_PASS;
	}
	if (a->op != bpf_htons(1))
		return XDP_PASS;
	if (bpf_jiffies64() >= READ_ONCE(s->lease_until)) {
		count(REASON_ARP_LEASE_ENDED);
		return XDP_DROP;
	}
	if (v->role == ROLE_DRAINING) {
		count(REASON_ARP_DRAINING);
		return XDP_DROP;
	}
	return XDP_PASS;
}

/*
 * The server for a packet without a flow that is any use; 0 if there is none.
 * It is remembered, in the entry f of the flow's past if there is one, unless
 * this CPU stores too many flows: then the packet goes where a hash points, and
 * with hashed it belongs to a SYN that went there (limit.h).
 */
static __always_inline __u32 begin(struct generation *g, const struct packet *p,
				   const struct service *svc, struct flow *f, __u64 past,
				   __u32 state, int hashed, __u32 now)
{
	int persistent = svc->flags & SERVICE_PERSISTENT, store = may_store();
	__u32 id = persistent ? template_server(g, svc, p, now) : 0;
	__u64 val;

	if (UNLIKELY(svc->flags >= SERVICE_QUIC))
		id = quic_server(p->ctx, g, p->l3, QUIC_WHAT(svc));
	if (!store)
		count(REASON_FLOW_LIMIT);
	if (!id) {
		if ((store && !hashed) || svc->flags & SERVICE_HASH)
			id = schedule(g, svc, p);
		else if (persistent)
			id = hash_server(g, svc, client_hash(p->saddr & svc->client_mask, 0));
		else
			id = hash_server(g, svc, client_hash(p->saddr, p->sport));
	}
	if (!id || !store)
		return id;
	observe_flow(f ? FLOW_STATE(past) : FLOW_FREE, state);
	if (persistent)
		template_set(svc, p, id, state, now);
	val = FLOW_VAL(svc->id, id, state, 0, now);
	if (UNLIKELY(svc->flags & SERVICE_LEAST))
		least_count(g, past, val, p->protocol);
	if (f) /* The entry is this flow's already; only its server changes. */
		flow_replace(f, past, val);
	else
		flow_store(flow_key(p), val);
	return id;
}

/* The part after the service is known: flow, schedule, second chance. */
static __always_inline int serve(struct generation *g, const struct packet *p,
				 const struct vip *v, const struct service *svc, __u32 now,
				 int ended, int peer)
{
	__u32 state = p->protocol == IPPROTO_UDP ? FLOW_UDP : FLOW_SYN, id;
	__u64 key = flow_key(p), val = 0;
	struct flow *f = NULL;
	int hashed = 0, moves = 0;
	struct server *s;

	if (!(svc->flags & SERVICE_ONE_PACKET))
		f = flow_find(key, flow_hash(key), svc->id, &val);
	if (f) {
		__u32 was = FLOW_STATE(val);
		__u64 next = FLOW_NEXT(val, next_state(was, p), now);

		s = get_server(g, FLOW_SERVER(val));
		/*
		 * Most packets change nothing: their flow was seen in this age
		 * unit, so it is not past its time either.
		 *
		 * A packet that opens nothing keeps even an entry that is past
		 * its time: better than a reset. One that opens begins anew
		 * after FIN or RST and after the time; else it is a repetition.
		 */
		if (stays(svc, s) &&
		    ((next == val && was != FLOW_FIN) ||
		     (opens(p) ? was != FLOW_FIN && !flow_expired(g, val, now)
			       : was != FLOW_FIN || !superseded(g, p, v->since, val, now)))) {
			observe_flow(was, FLOW_STATE(next));
			/* Once per age unit or change of state, not per packet. */
			if (next != val) {
				if (UNLIKELY(svc->flags & SERVICE_LEAST))
					least_count(g, val, next, p->protocol);
				flow_swap(f, val, next);
				if (svc->flags & SERVICE_PERSISTENT && s->service == svc->id)
					template_refresh(svc, p, FLOW_SERVER(val), FLOW_STATE(next), now);
			}
			return forward(g, p, s, FLOW_SERVER(val), 0);
		}
		if (!opens(p) && !stays(svc, s)) {
			if (!(svc->flags & SERVICE_RESCHEDULE))
				return leave(ended, REASON_SERVER_GONE);
			moves = 1;
			state = FLOW_ESTABLISHED;
		}
	}

	/* A packet from a peer is never scheduled nor sent on: no loop. */
	if (peer || from_peer(g, p->eth))
		return leave(ended, REASON_PEER_NO_FLOW);
	if (svc->flags & SERVICE_ONE_PACKET) {
		id = schedule(g, svc, p);
		if (!id)
			return leave(ended, REASON_NO_SERVER);
		return forward(g, p, get_server(g, id), id, 1);
	}
	if (!opens(p) && !moves) {
		/* Never schedule it: that would only move a reset elsewhere. */
		if (g->second_chance && g->npeers) {
			return send_to_peer(g, p);
		}
		if (f || !lately_limited())
			return leave(ended, REASON_NO_FLOW);
		hashed = 1;
	}
	id = begin(g, p, svc, f, val, state, hashed, now);
	if (!id)
		return leave(ended, REASON_NO_SERVER);
	return forward(g, p, get_server(g, id), id, !hashed);
}

/* The verdict of a function that was called. */
static __always_inline int finish(struct xdp_md *ctx, struct generation *g, __u32 l3, int verdict)
{
	return verdict == NO_MAC ? elsewhere(ctx, g, l3) : verdict;
}

/* An IPv4 packet that begins l3 bytes into the frame. */
static __always_inline int ipv4(struct xdp_md *ctx, struct state *s, struct generation *g,
				struct ethhdr *eth, __u32 l3, void *end)
{
	struct iphdr *ip = (void *)eth + l3;
	struct packet p = { .ctx = ctx, .eth = eth, .l3 = l3, .outermost = 1 };
	struct service *svc;
	struct vip *v;
	__u64 jiffies, key;
	__u32 header;
	int ended, peer = 0;

	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	v = vip_place(g, ip->daddr);
	if (!is_vip(v, ip->daddr))
		return XDP_PASS;

	jiffies = bpf_jiffies64();
	ended = jiffies >= READ_ONCE(s->lease_until);
	if (!for_us(ctx, g, eth)) {
		/* To a group the kernel may answer; to another MAC it does not. */
		if (ended && is_group(eth->h_dest))
			return leave(ended, REASON_LEASE_ENDED);
		return XDP_PASS;
	}
	if (ended || v->role == ROLE_STANDBY) {
		peer = from_peer(g, eth);
		if (!peer)
			return leave(ended, REASON_STANDBY);
	}
	/* One way from here for the verifier, not one for each of their values. */
	ended += unknown_zero(jiffies);
	peer += unknown_zero(jiffies);

	p.protocol = ip->protocol;
	if (!has_ports(p.protocol)) {
		if (p.protocol == IPPROTO_ICMP)
			return finish(ctx, g, l3, icmp4(ctx, g, l3, ended, peer));
		return leave(ended, REASON_OTHER_PROTOCOL);
	}
	p.first = ip->frag_off & bpf_htons(IP_FRAGMENT);
	if (p.first & bpf_htons(IP_OFFSET))
		return finish(ctx, g, l3, fragment4_later(ctx, g, l3, ended));
	p.saddr = ip->saddr;
	p.bytes = bpf_ntohs(ip->tot_len);
	header = ip->ihl * 4;
	/* Not ip + p.bytes > end: Linux 6.1 knows no bound of a swapped halfword. */
	if (ip->version != 4 || header < sizeof(*ip) || p.bytes < header ||
	    p.bytes > end - (void *)ip)
		return leave(ended, REASON_MALFORMED);
	if (!parse_l4(&p, (void *)ip + header, end))
		return leave(ended, REASON_MALFORMED);

	key = service_key(ip->daddr, p.dport, p.protocol);
	svc = find_service(g, v, key, p.dport, p.protocol);
	if (!svc)
		return leave(ended, REASON_NO_SERVICE);
	return serve(g, &p, v, svc, (__u32)(jiffies >> age_shift), ended, peer);
}

static __always_inline int is_tag(__be16 type)
{
	return type == bpf_htons(ETH_TAG) || type == bpf_htons(ETH_SERVICE_TAG);
}

/*
 * A frame with one or two VLAN tags, which it keeps: a virtual address is the
 * same in all VLANs that end at our MAC address. Tags that the NIC has taken
 * off (rxvlan) are not seen, and lost: it must be off. Returns where IP begins
 * and, above 16 bits, the type of what does; 0: neither.
 */
GLOBAL __u64 untagged(struct xdp_md *ctx)
{
	__be16 *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if ((void *)data + L3_MAX > end)
		return 0;
	if (is_tag(data[8]))
		return (__u64)data[10] << 16 | (ETH_HLEN + 2 * TAG_LEN);
	return (__u64)data[8] << 16 | (ETH_HLEN + TAG_LEN);
}

#ifndef ENTRY /* observe.c has another */
#define ENTRY SEC("xdp") int systole_xdp
#endif

ENTRY(struct xdp_md *ctx)
{
	struct generation *g;
	struct ethhdr *eth;
	struct state *s;
	void *data, *end;
	__u32 l3 = ETH_HLEN;
	__be16 type;

#ifndef SYSTOLE_OBSERVE /* the observing program goes the long way only */
	struct xdp_md *volatile kept = ctx;

	fast(ctx);
	/* Nothing that it has read is kept, not even what it was called with. */
	asm volatile("" : : : "memory");
	ctx = kept;
#endif
	eth = data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	s = get_state();
	g = active_generation(s);
	type = ether_type(eth);
	if (type != bpf_htons(ETH_P_IP)) {
		if (is_tag(type)) {
			__u64 inner = untagged(ctx);

			l3 = inner & 0xffff;
			type = inner >> 16;
			if (l3 > L3_MAX)
				return XDP_PASS;
		}
		if (type == bpf_htons(ETH_P_IPV6))
			return finish(ctx, g, l3, ipv6(ctx, g, l3));
		if (type == bpf_htons(ETH_P_ARP))
			return arp(s, g, data + l3, end);
		if (type != bpf_htons(ETH_P_IP))
			return XDP_PASS;
	}
	return ipv4(ctx, s, g, eth, l3, end);
}
