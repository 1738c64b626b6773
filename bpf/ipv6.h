/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * IPv6: the same questions in the same order as for IPv4 (xdp.c). Also what
 * IPv4 has ARP for, and extension headers.
 */
#ifndef SYSTOLE_IPV6_H
#define SYSTOLE_IPV6_H

#include "flow6.h"
#include "forward.h"
#include "icmp.h"
#include "later.h"
#include "lease.h"
#include "limit.h"
#include "persist6.h"
#include "schedule.h"

struct ip6 {
	__u8 version; /* and half of the traffic class */
	__u8 flow[3];
	__be16 payload; /* bytes after this header */
	__u8 next;
	__u8 hops;
	__u64 saddr[2];
	__u64 daddr[2];
};

/*
 * Two perfect hashes more, multilinear, so that all words of an address count
 * alike. Their multipliers come from user space; they keep nothing secret.
 */
static __always_inline __u64 address_hash(const __u64 *addr, const __u64 *seed)
{
	return (__u32)addr[0] * seed[0] + (addr[0] >> 32) * seed[1] + (__u32)addr[1] * seed[2] +
	       (addr[1] >> 32) * seed[3];
}

static __always_inline int same_address(const __be32 *a, const __u64 *b)
{
	return a[0] == (__u32)b[0] && a[1] == b[0] >> 32 && a[2] == (__u32)b[1] &&
	       a[3] == b[1] >> 32;
}

static __always_inline struct vip6 *vip6_place(struct generation *g, const __u64 *addr)
{
	__u32 h = address_hash(addr, g->vip6_seed) >> 32;
	__u32 at = h ^ g->vip6_shift[(h >> 16) & (VIP6_BUCKETS - 1)];

	return &g->vips6[at & (VIP6_TABLE - 1)];
}

static __always_inline int is_vip6(const struct vip6 *v, const __u64 *addr)
{
	return v->role != ROLE_NONE && same_address(v->addr, addr);
}

/* find_service() of schedule.h; addr is that of v. */
static __always_inline struct service6 *service6_find(struct generation *g, const struct vip6 *v,
						      const __u64 *addr, __be16 port, __u8 protocol)
{
	__u32 key = (__u32)port << 8 | protocol;
	__u32 h = (address_hash(addr, g->service6_seed) + key * g->service6_seed[4]) >> 32;
	__u32 at = h ^ g->service6_shift[(h >> 16) & (SERVICE6_BUCKETS - 1)];
	struct service6 *s = &g->services6[at & (SERVICE6_TABLE - 1)];
	int place;

	if (s->service.key == key && same_address(s->addr, addr))
		return s;
	if (!v->ranges)
		return NULL;
	place = range_place(g, v->first_range, v->ranges, bpf_ntohs(port), protocol);
	return place < 0 ? NULL : &g->services6[place & (SERVICE6_TABLE - 1)];
}

/*
 * What a walk over extension headers found, in one word: a function that is
 * verified by itself hands over nothing else.
 */
#define WALK_PROTOCOL(w) ((__u8)(w))
#define WALK_OFFSET(w) (((w) >> 8) & 0xffff) /* from the beginning of the frame */
#define WALK_ID(w) ((__u32)((w) >> 32))
#define WALK_FRAGMENT (1 << 24) /* one of several */
#define WALK_LATER (1 << 25)    /* and not the first */

#define MAX_EXTENSIONS 8

#define NEXT_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_NONE 59 /* also: nothing that we look into */
#define NEXT_OPTIONS 60
#define NEXT_ICMP 58

static __always_inline int is_extension(__u8 next)
{
	return next == NEXT_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
	       next == NEXT_OPTIONS;
}

struct extension {
	__u8 next;
	__u8 length;    /* in 8 bytes, less one; 0 for a fragment header */
	__be16 offset;  /* fragment: in 8 bytes, << 3; bit 0: more. Routing: type, segments left */
	__be32 id;
};

/*
 * Follows the headers from at, of which the first is of type next, RFC 8200
 * section 4. A packet that is not yet at the end of its route is not for us.
 */
GLOBAL __u64 walk(struct xdp_md *ctx, __u32 at, __u32 next)
{
	void *end = (void *)(long)ctx->data_end;
	__u64 fragment = 0;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		struct extension *e;
		__u32 length;

		if (!is_extension(next))
			return fragment | (__u64)(at & 0xffff) << 8 | (__u8)next;
		if (at > 0x3fff)
			break;
		e = (void *)(long)ctx->data + at;
		if ((void *)(e + 1) > end)
			break;
		length = (e->length + 1) * 8;
		if (next == NEXT_ROUTING && e->offset >> 8)
			break;
		if (next == NEXT_FRAGMENT) {
			length = 8;
			if (e->offset & bpf_htons(0xfff9))
				fragment |= WALK_FRAGMENT | (__u64)e->id << 32;
			if (e->offset & bpf_htons(0xfff8))
				return fragment | WALK_LATER | (__u64)(at & 0xffff) << 8 | e->next;
		}
		next = e->next;
		at += length;
	}
	return NEXT_NONE;
}

/* A neighbour solicitation, or an advertisement: RFC 4861 sections 4.3 and 4.4. */
struct solicitation {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 reserved;
	__u64 target[2];
};
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

/*
 * The same as arp() for IPv6. A director that takes an address over may ask
 * whether somebody has it (from ::), and must not hear from us then.
 * Announcements are advertisements.
 */
static __always_inline int solicitation(struct state *s, struct generation *g,
					const struct ethhdr *eth, struct solicitation *n, void *end)
{
	struct vip6 *v;

	if ((void *)(n + 1) > end || (n->type != ND_SOLICITATION && n->type != ND_ADVERTISEMENT))
		return XDP_PASS;
	v = vip6_place(g, n->target);
	if (!is_vip6(v, n->target))
		return XDP_PASS;
	if (n->type == ND_ADVERTISEMENT) {
		if (v->role == ROLE_ACTIVE && !same_mac(eth->h_source, g->own.addr))
			another_owner(s);
		return XDP_PASS;
	}
	if (bpf_jiffies64() >= READ_ONCE(s->lease_until)) {
		count(REASON_ND_LEASE_ENDED);
		return XDP_DROP;
	}
	if (v->role == ROLE_DRAINING) {
		count(REASON_ND_DRAINING);
		return XDP_DROP;
	}
	return XDP_PASS;
}

/*
 * The slot of a client, as client_hash(): not secret, the same at every
 * director.
 */
static __always_inline __u32 client_hash6(const __u64 *addr, __be16 port)
{
	__u64 h = addr[0] * 0x9e3779b97f4a7c15ULL;

	h = (h ^ h >> 32 ^ addr[1]) * 0xbf58476d1ce4e5b9ULL;
	h = (h ^ h >> 32 ^ port) * 0x9e3779b97f4a7c15ULL;
	return (h ^ h >> 32) * 0xbf58476d1ce4e5b9ULL >> 32;
}

static __always_inline __u32 schedule6(struct generation *g, const struct service *s,
				       const __u64 *client, __be16 port)
{
	if (s->flags & SERVICE_HASH)
		return hash_server(g, s, client_hash6(client, s->flags & SERVICE_HASH_PORT ? port : 0));
	return next_server(g, s);
}

/* begin() of xdp.c for IPv6; k is the flow's key, t the template's. */
static __always_inline __u32 begin6(struct generation *g, const struct packet *p,
				    const struct service *svc, struct key6 *k, struct key6 *t,
				    struct flow6 *f, __u64 past, __u32 state, int hashed, __u32 now)
{
	int persistent = svc->flags & SERVICE_PERSISTENT, store = may_store();
	__u32 id = persistent ? template6_server(g, t, now) : 0;
	__u64 val;

	if (UNLIKELY(svc->flags >= SERVICE_QUIC))
		id = quic_server(p->ctx, g, p->l3, QUIC_WHAT(svc));
	OPAQUE(id); /* that it is below SERVER_IDS the verifier must see here */
	if (!store)
		count(REASON_FLOW_LIMIT);
	if (!id) {
		if ((store && !hashed) || svc->flags & SERVICE_HASH)
			id = schedule6(g, svc, k->client, p->sport);
		else if (persistent)
			id = hash_server(g, svc, client_hash6(t->client, 0));
		else
			id = hash_server(g, svc, client_hash6(k->client, p->sport));
	}
	if (!id || !store)
		return id;
	observe_flow(f ? FLOW_STATE(past) : FLOW_FREE, state);
	if (persistent)
		template6_store(t, template_val(svc, id, state, now), 1);
	val = FLOW_VAL(svc->id, id, state, 0, now);
	if (UNLIKELY(svc->flags & SERVICE_LEAST))
		least_count(g, past, val, p->protocol);
	if (!f)
		store6(0, flow6_hash(k), k, val);
	else if (!val6_swap(f, past, val | FLOW_VERSION(past)))
		count(REASON_FLOW_NOT_STORED);
	return id;
}

/* serve() of xdp.c for IPv6. The key has the client. */
static __always_inline int serve6(struct generation *g, const struct packet *p, __u32 since,
				  const struct service6 *svc6, struct scratch *x, __u32 now,
				  int ended, int peer)
{
	__u32 state = p->protocol == IPPROTO_UDP ? FLOW_UDP : FLOW_SYN, id;
	const struct service *svc = &svc6->service;
	int hashed = 0, moves = 0;
	struct key6 *k = &x->key;
	struct flow6 *f = NULL;
	struct server *s;
	__u64 val = 0;

	k->port = flow6_port(svc->id, p->sport, p->dport);
	if (svc->flags & SERVICE_PERSISTENT)
		template6_key(&x->template, svc6, k);
	if (!(svc->flags & SERVICE_ONE_PACKET))
		f = flow6_find(k, flow6_hash(k), &val);
	if (f) {
		__u32 was = FLOW_STATE(val);
		__u64 next = FLOW_NEXT(val, next_state(was, p), now);

		s = get_server(g, FLOW_SERVER(val));
		if (stays(svc, s) &&
		    ((next == val && was != FLOW_FIN) ||
		     (opens(p) ? was != FLOW_FIN && !flow_expired(g, val, now)
			       : was != FLOW_FIN || !superseded(g, p, since, val, now)))) {
			observe_flow(was, FLOW_STATE(next));
			WRITE_ONCE(x->server, FLOW_SERVER(val));
			if (next != val) {
				if (UNLIKELY(svc->flags & SERVICE_LEAST))
					least_count(g, val, next, p->protocol);
				val6_swap(f, val, next);
				if (svc->flags & SERVICE_PERSISTENT && s->service == svc->id)
					template6_store(&x->template,
							template_val(svc, FLOW_SERVER(val), FLOW_STATE(next), now), 0);
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

	if (!opens(p) && !moves) {
		if (f || !lately_limited() || (g->second_chance && g->npeers))
			return lost(g, p, ended, peer);
		hashed = 1;
	}
	if (peer || from_peer(g, p->eth))
		return leave(ended, REASON_PEER_NO_FLOW);
	if (svc->flags & SERVICE_ONE_PACKET)
		id = schedule6(g, svc, k->client, p->sport);
	else
		id = begin6(g, p, svc, k, &x->template, f, val, state, hashed, now);
	if (!id)
		return leave(ended, REASON_NO_SERVER);
	WRITE_ONCE(x->server, id);
	return forward(g, p, get_server(g, id), id, !hashed);
}

/* ICMPv6 errors, RFC 4443 section 3: types 1 to 4. See icmp.h. */
#define ICMP6_ERRORS 4

/* at is where the ICMPv6 header begins. */
GLOBAL int icmp6(struct xdp_md *ctx, struct generation *g, __u32 l3, __u32 at, __u32 flags)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	int ended = flags & 1, peer = flags & 2;
	struct packet p = { .ctx = ctx, .eth = data };
	struct ip6 *ip, *quoted;
	struct service6 *svc;
	struct server *s;
	struct flow6 *f;
	struct scratch *x = get_scratch();
	struct l4 *ports;
	struct key6 *k;
	__u64 val = 0, w;
	__u8 *icmp;

	if (!g || !x || l3 > L3_MAX || at > 0x3fff || data + ETH_HLEN > end)
		return XDP_PASS;
	ip = ip_at(data, l3);
	icmp = data + at;
	quoted = (void *)icmp + ICMP_HEADER;
	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	if ((void *)(quoted + 1) > end || !*icmp || *icmp > ICMP6_ERRORS ||
	    quoted->version >> 4 != 6 || quoted->saddr[0] != ip->daddr[0] ||
	    quoted->saddr[1] != ip->daddr[1])
		return leave(ended, REASON_OTHER_PROTOCOL);
	w = walk(ctx, at + ICMP_HEADER + sizeof(*quoted), quoted->next);
	data = (void *)(long)ctx->data;
	ports = data + (WALK_OFFSET(w) & 0x3fff);
	if (w & WALK_LATER || !has_ports(WALK_PROTOCOL(w)) || (void *)(ports + 1) > end)
		return leave(ended, REASON_OTHER_PROTOCOL);

	p.bytes = bpf_ntohs(ip->payload) + sizeof(*ip);
	p.protocol = WALK_PROTOCOL(w);
	p.sport = ports->dport;
	p.dport = ports->sport;
	svc = service6_find(g, vip6_place(g, ip->daddr), ip->daddr, p.dport, p.protocol);
	if (!svc)
		return leave(ended, REASON_NO_SERVICE);
	k = &x->key;
	k->client[0] = quoted->daddr[0];
	k->client[1] = quoted->daddr[1];
	k->port = flow6_port(svc->service.id, p.sport, p.dport);
	f = flow6_find(k, flow6_hash(k), &val);
	if (!f)
		return lost(g, &p, ended, peer);
	s = get_server(g, FLOW_SERVER(val));
	if (!stays(&svc->service, s))
		return leave(ended, REASON_SERVER_GONE);
	return forward(g, &p, s, FLOW_SERVER(val), 0);
}

/* An IPv6 packet that begins l3 bytes into the frame. */
GLOBAL int ipv6(struct xdp_md *ctx, struct generation *g, __u32 l3)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet p = { .ctx = ctx, .eth = data, .l3 = l3 };
	struct ethhdr *eth = data;
	struct scratch *x = get_scratch();
	struct service6 *svc;
	struct state *s;
	struct ip6 *ip;
	struct vip6 *v;
	__u64 jiffies, w;
	__u32 at;
	int ended, peer = 0, verdict;

	if (!g || !x || l3 > L3_MAX)
		return XDP_PASS;
	ip = ip_at(data, l3);
	if ((void *)(eth + 1) > end || (void *)(ip + 1) > end)
		return XDP_PASS;
	s = get_state();
	/* Solicitations go to groups, and to the address itself. */
	if (ip->next == NEXT_ICMP && solicitation(s, g, eth, (void *)(ip + 1), end) == XDP_DROP)
		return XDP_DROP;
	v = vip6_place(g, ip->daddr);
	if (!is_vip6(v, ip->daddr))
		return XDP_PASS;

	jiffies = bpf_jiffies64();
	ended = jiffies >= READ_ONCE(s->lease_until);
	if (!for_us(ctx, g, eth)) {
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

	p.bytes = bpf_ntohs(ip->payload) + sizeof(*ip);
	if (ip->version >> 4 != 6 || p.bytes > end - (void *)ip)
		return leave(ended, REASON_MALFORMED);
	w = (__u64)(l3 + sizeof(*ip)) << 8 | ip->next;
	if (is_extension(ip->next))
		w = walk(ctx, l3 + sizeof(*ip), ip->next);
	p.protocol = WALK_PROTOCOL(w);
	at = WALK_OFFSET(w) & 0x3fff;
	if (p.protocol == NEXT_ICMP && !(w & WALK_FRAGMENT))
		return icmp6(ctx, g, l3, at, (ended ? 1 : 0) | (peer ? 2 : 0));
	if (!has_ports(p.protocol))
		return leave(ended, REASON_OTHER_PROTOCOL);
	x->key.client[0] = ip->saddr[0];
	x->key.client[1] = ip->saddr[1];
	WRITE_ONCE(x->fragment, w & WALK_FRAGMENT);
	WRITE_ONCE(x->server, 0);
	if (w & WALK_FRAGMENT) {
		x->vip.client[0] = ip->daddr[0];
		x->vip.client[1] = ip->daddr[1];
		x->datagram.client[0] = ip->saddr[0];
		x->datagram.client[1] = ip->saddr[1];
		fragment_key(&x->datagram, &x->vip, p.protocol, WALK_ID(w));
		if (w & WALK_LATER)
			return fragment_later(g, &p, &x->datagram, ended);
	}
	if (!parse_l4(&p, data + at, end))
		return leave(ended, REASON_MALFORMED);

	svc = service6_find(g, v, ip->daddr, p.dport, p.protocol);
	if (!svc)
		return leave(ended, REASON_NO_SERVICE);
	verdict = serve6(g, &p, v->since, svc, x, (__u32)(jiffies >> age_shift), ended, peer);
	if (READ_ONCE(x->fragment) && READ_ONCE(x->server))
		fragment_store(&x->datagram, x->server);
	return verdict;
}

#endif
