/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Tunnels (LVS "TUN"): the packet as it is, behind an IP header that leads to
 * the real server: IPv4 in IPv4 (RFC 2003), IPv6 in IPv6 (RFC 2473), the one in
 * the other (RFC 4213), and each of them in UDP with a header of Generic UDP
 * Encapsulation (GUE: variant 0, no options). The outer header is what kernel
 * IPVS writes (ip_vs_tunnel_xmit() in net/netfilter/ipvs/ip_vs_xmit.c): TTL and
 * the byte of DSCP and ECN are the packet's, DF is its own if both are IPv4, no
 * flow label, GUE without checksum (RFC 6935). But the packet's own TTL stays, as
 * everywhere here: this is no router.
 *
 * What does not fit
 * -----------------
 * XDP cannot make two frames of one. Of a packet that is too big with the outer
 * header and must not be fragmented (DF, or IPv6) the client is told, as from the
 * virtual address, how much fits (RFC 1191, RFC 8201): so many of them a second
 * and CPU, the rest is dropped. IPVS says the same. What may be fragmented goes up:
 * there IPVS, if it holds the service, sends it in fragments, by a flow of its
 * own. The fragments of one datagram stay together, since the first of them is not
 * remembered then and the others go up as well.
 */
#ifndef SYSTOLE_TUNNEL_H
#define SYSTOLE_TUNNEL_H

#include "forward.h"
#include "fragment.h"
#include "ipv6.h"
#include "limit.h"
#include "maps.h"
#include "parse.h"
#include "schedule.h"

#define IP_DF 0x4000

/* The header of GUE, draft-ietf-intarea-gue-09 section 3.1: version, C and length are 0. */
struct gue {
	__u8 control;
	__u8 protocol; /* of what follows */
	__be16 flags;
};

struct udp {
	__be16 source;
	__be16 dest;
	__be16 length;
	__sum16 check; /* 0: none */
};

#define GUE_ROOM (sizeof(struct udp) + sizeof(struct gue))

/* What the outer header takes over from the inner one. */
struct inner {
	__u32 bytes;
	__u32 hash;     /* of the client, for the routers' choice of a path */
	__u8 protocol;  /* of the packet itself: IPPROTO_IPIP or IPPROTO_IPV6 */
	__u8 tos;
	__u8 ttl;
	__u8 first;     /* an IPv4 fragment, the first one */
	__be16 df;
};

/* The tunnel of a server; its kind is 0 if there is none. */
static __always_inline struct tunnel *get_tunnel(struct generation *g, __u32 id)
{
	return &g->tunnels[g->tunnel_of[id & (SERVER_IDS - 1)] & (TUNNELS - 1)];
}

/* The checksum of RFC 1071 from a sum of words. */
static __always_inline __sum16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Checksum of an IPv4 header without options, whose field is still 0. */
static __always_inline __sum16 ip_checksum(const struct iphdr *ip)
{
	const __u32 *word = (const __u32 *)ip;

	return fold((__u64)word[0] + word[1] + word[2] + word[3] + word[4]);
}

/* Before the frame's head moves: the bytes behind its addresses. */
static __always_inline __u64 ether_tags(const void *eth)
{
	const __u32 *word = eth + 12;

	return word[0] | (__u64)word[1] << 32;
}

/* Cuts the frame to n bytes, which it has; 0 if it worked. */
static __always_inline int cut(struct xdp_md *ctx, __u32 n)
{
	__s64 length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	OPAQUE(length); /* the verifier wants it in 64 bits */
	return bpf_xdp_adjust_tail(ctx, (__s64)n - length);
}

/* The tags in a new head of the same length, and the type of what follows. */
static __always_inline void set_ether(void *eth, __u32 l3, __u64 tags, __be16 type)
{
	__u32 *word = eth;
	__be16 *half = eth;

	if (l3 == ETH_HLEN) {
		half[6] = type;
		return;
	}
	word[3] = tags;
	if (l3 == ETH_HLEN + TAG_LEN) {
		half[8] = type;
		return;
	}
	word[4] = tags >> 32;
	half[10] = type;
}

/*
 * So that a flood of packets that do not fit is not answered by another one:
 * errors per CPU in a unit of age, about a second. Linux' own limit of all ICMP
 * is as high (icmp_msgs_per_sec).
 */
#define MAX_ERRORS 1000

static __always_inline int may_complain(void)
{
	__u64 unit = bpf_jiffies64() >> age_shift;
	__u32 zero = 0;
	struct budget *b = bpf_map_lookup_elem(&budgets, &zero);

	if (!b)
		return 0;
	if (b->unit != unit) {
		b->unit = unit;
		b->errors = 0;
	}
	return b->errors++ < MAX_ERRORS;
}

/* Not an answer to one machine, RFC 1122 section 3.2.2. */
static __always_inline int no_host(__be32 addr)
{
	__u8 first = addr;

	return first == 0 || first == 127 || first >= 224;
}

/* Back to where the packet came from, by the interface it came in by. */
static __always_inline int answer(struct xdp_md *ctx, struct generation *g, void *data, __u64 mac)
{
	if (g->ndevices)
		return send_by(ctx, g, (mac & MAC_BITS) | (__u64)VIA_ANY << 48, 0);
	return send_to(g, data, mac);
}

/* An ICMP error quotes so much that its packet has 576 bytes, RFC 1812 section 4.3.2.3. */
#define ICMP_ROOM (sizeof(struct iphdr) + ICMP_HEADER)
#define ICMP_QUOTE (576 - ICMP_ROOM)
#define ICMP_NEEDED 4 /* the code of "fragmentation needed", RFC 1191 */

/* An IPv4 packet, larger than most. */
GLOBAL int too_big4(struct xdp_md *ctx, struct generation *g, __u32 l3, __u32 most)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__be32 client, vip;
	struct iphdr *ip;
	struct state *s;
	__be32 *icmp;
	__u64 tags, mac;
	__u32 sum;

	if (!g || l3 > L3_MAX || data + L3_MAX > end)
		return XDP_DROP;
	ip = ip_at(data, l3);
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	if (!(ip->frag_off & bpf_htons(IP_DF)) || ip->frag_off & bpf_htons(IP_OFFSET) ||
	    ip->protocol == IPPROTO_ICMP) {
		s = get_state();
		if (!s)
			return XDP_DROP;
		return leave(bpf_jiffies64() >= READ_ONCE(s->lease_until), REASON_TUNNEL_FRAGMENT);
	}
	client = ip->saddr;
	vip = ip->daddr;
	if (no_host(client) || !may_complain()) {
		count(REASON_TUNNEL_SILENT);
		return XDP_DROP;
	}
	mac = mac_word(eth->h_source);
	tags = ether_tags(eth);
	if (cut(ctx, l3 + ICMP_QUOTE) || bpf_xdp_adjust_head(ctx, -(int)ICMP_ROOM)) {
		count(REASON_TUNNEL_NO_ROOM);
		return XDP_DROP;
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	ip = ip_at(data, l3);
	icmp = (void *)(ip + 1);
	if (data + L3_MAX > end || (void *)icmp + ICMP_HEADER + ICMP_QUOTE > end)
		return XDP_DROP;
	set_ether(data, l3, tags, bpf_htons(ETH_P_IP));
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0xc0; /* internetwork control, RFC 1812 section 4.3.2.5 */
	ip->tot_len = bpf_htons(ICMP_ROOM + ICMP_QUOTE);
	ip->id = 0;
	ip->frag_off = bpf_htons(IP_DF);
	ip->ttl = 64;
	ip->protocol = IPPROTO_ICMP;
	ip->check = 0;
	ip->saddr = vip;
	ip->daddr = client;
	ip->check = ip_checksum(ip);
	icmp[0] = ICMP_UNREACHABLE | ICMP_NEEDED << 8;
	icmp[1] = bpf_htonl(most);
	/* Not more than 512 bytes at a time. */
	sum = bpf_csum_diff(NULL, 0, icmp, 512, 0);
	sum = bpf_csum_diff(NULL, 0, icmp + 128, ICMP_HEADER + ICMP_QUOTE - 512, sum);
	icmp[0] |= (__u32)fold(sum) << 16;
	count(REASON_TUNNEL_TOO_BIG);
	return answer(ctx, g, data, mac);
}

/* An ICMPv6 error has 1280 bytes, RFC 4443 section 2.4 (c). */
#define ICMP6_ROOM (sizeof(struct ip6) + ICMP_HEADER)
#define ICMP6_QUOTE (1280 - ICMP6_ROOM)
#define ICMP6_TOO_BIG 2

/* The same for IPv6, which no router fragments. */
GLOBAL int too_big6(struct xdp_md *ctx, struct generation *g, __u32 l3, __u32 most)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct scratch *x = get_scratch();
	__u64 tags, mac, pseudo;
	__u32 *icmp, sum;
	struct ip6 *ip;
	__u8 next;

	if (!g || !x || l3 > L3_MAX || data + L3_MAX > end)
		return XDP_DROP;
	ip = ip_at(data, l3);
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	next = ip->next;
	x->key.client[0] = ip->saddr[0];
	x->key.client[1] = ip->saddr[1];
	x->vip.client[0] = ip->daddr[0];
	x->vip.client[1] = ip->daddr[1];
	/* No errors about errors, nor to groups and nobody, RFC 4443 section 2.4 (e). */
	if (next == NEXT_ICMP || (__u8)x->key.client[0] == 0xff ||
	    !(x->key.client[0] | x->key.client[1]) || !may_complain()) {
		count(REASON_TUNNEL_SILENT);
		return XDP_DROP;
	}
	mac = mac_word(eth->h_source);
	tags = ether_tags(eth);
	if (cut(ctx, l3 + ICMP6_QUOTE) || bpf_xdp_adjust_head(ctx, -(int)ICMP6_ROOM)) {
		count(REASON_TUNNEL_NO_ROOM);
		return XDP_DROP;
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	ip = ip_at(data, l3);
	icmp = (void *)(ip + 1);
	if (data + L3_MAX > end || (void *)icmp + ICMP_HEADER + ICMP6_QUOTE > end)
		return XDP_DROP;
	set_ether(data, l3, tags, bpf_htons(ETH_P_IPV6));
	ip->version = 0x60;
	ip->flow[0] = ip->flow[1] = ip->flow[2] = 0;
	ip->payload = bpf_htons(ICMP_HEADER + ICMP6_QUOTE);
	ip->next = NEXT_ICMP;
	ip->hops = 64;
	ip->saddr[0] = x->vip.client[0];
	ip->saddr[1] = x->vip.client[1];
	ip->daddr[0] = x->key.client[0];
	ip->daddr[1] = x->key.client[1];
	icmp[0] = ICMP6_TOO_BIG;
	icmp[1] = bpf_htonl(most);
	/* The pseudo-header, RFC 8200 section 8.1. */
	pseudo = (__u32)ip->saddr[0] + (ip->saddr[0] >> 32) + (__u32)ip->saddr[1] + (ip->saddr[1] >> 32);
	pseudo += (__u32)ip->daddr[0] + (ip->daddr[0] >> 32) + (__u32)ip->daddr[1] + (ip->daddr[1] >> 32);
	pseudo += bpf_htonl(ICMP_HEADER + ICMP6_QUOTE) + (__u64)bpf_htonl(NEXT_ICMP);
	sum = bpf_csum_diff(NULL, 0, icmp, 512, 0);
	sum = bpf_csum_diff(NULL, 0, icmp + 128, 512, sum);
	sum = bpf_csum_diff(NULL, 0, icmp + 256, ICMP_HEADER + ICMP6_QUOTE - 1024, sum);
	icmp[0] |= (__u32)fold(pseudo + sum) << 16;
	count(REASON_TUNNEL_TOO_BIG);
	return answer(ctx, g, data, mac);
}

/* Reads the packet at ip; 0 if the frame ends before its header does. */
static __always_inline int look_inside(struct inner *in, void *at, void *end, __be16 sport)
{
	struct iphdr *ip = at;
	struct ip6 *ip6 = at;

	if ((void *)(ip + 1) > end)
		return 0;
	if (ip->version == 4) {
		in->protocol = IPPROTO_IPIP;
		in->bytes = bpf_ntohs(ip->tot_len);
		in->tos = ip->tos;
		in->ttl = ip->ttl;
		in->df = ip->frag_off & bpf_htons(IP_DF);
		in->first = (ip->frag_off & bpf_htons(IP_FRAGMENT)) == bpf_htons(IP_FRAGMENT & ~IP_OFFSET);
		in->hash = client_hash(ip->saddr, sport);
		return 1;
	}
	if ((void *)(ip6 + 1) > end)
		return 0;
	in->protocol = IPPROTO_IPV6;
	in->bytes = bpf_ntohs(ip6->payload) + sizeof(*ip6);
	in->tos = ip6->version << 4 | ip6->flow[0] >> 4;
	in->ttl = ip6->hops;
	in->df = 0;
	in->first = 0;
	in->hash = client_hash6(ip6->saddr, sport);
	return 1;
}

/*
 * UDP and GUE. The source port is one of the dynamic ones, RFC 6335, always the
 * same for a flow: routers choose among equal paths by it.
 */
static __always_inline void write_gue(struct udp *udp, const struct tunnel *t, const struct inner *in)
{
	struct gue *gue = (void *)(udp + 1);

	udp->source = bpf_htons(0xc000 | in->hash >> 18);
	udp->dest = t->port;
	udp->length = bpf_htons(in->bytes + GUE_ROOM);
	udp->check = 0;
	gue->control = 0;
	gue->protocol = in->protocol;
	gue->flags = 0;
}

static __always_inline int write_outer4(struct iphdr *ip, void *end, const struct tunnel *t,
					const struct inner *in)
{
	__u32 bytes = sizeof(*ip) + in->bytes;
	struct udp *udp = (void *)(ip + 1);

	if ((void *)udp > end)
		return 0;
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = in->tos;
	/* Who cannot be fragmented needs no identification, RFC 6864 section 4.1. */
	ip->id = in->df ? 0 : bpf_get_prandom_u32();
	ip->frag_off = in->df;
	ip->ttl = in->ttl;
	ip->protocol = in->protocol;
	ip->check = 0;
	ip->saddr = t->source[0];
	ip->daddr = t->target[0];
	if (t->kind & TUNNEL_GUE) {
		if ((void *)udp + GUE_ROOM > end)
			return 0;
		bytes += GUE_ROOM;
		ip->protocol = IPPROTO_UDP;
		write_gue(udp, t, in);
	}
	ip->tot_len = bpf_htons(bytes);
	ip->check = ip_checksum(ip);
	return 1;
}

static __always_inline int write_outer6(struct ip6 *ip, void *end, const struct tunnel *t,
					const struct inner *in)
{
	struct udp *udp = (void *)(ip + 1);
	__u32 bytes = in->bytes;

	if ((void *)udp > end)
		return 0;
	ip->version = 0x60 | in->tos >> 4;
	ip->flow[0] = in->tos << 4;
	ip->flow[1] = ip->flow[2] = 0;
	ip->next = in->protocol;
	ip->hops = in->ttl;
	__builtin_memcpy(ip->saddr, t->source, sizeof(ip->saddr));
	__builtin_memcpy(ip->daddr, t->target, sizeof(ip->daddr));
	if (t->kind & TUNNEL_GUE) {
		if ((void *)udp + GUE_ROOM > end)
			return 0;
		bytes += GUE_ROOM;
		ip->next = IPPROTO_UDP;
		write_gue(udp, t, in);
	}
	ip->payload = bpf_htons(bytes);
	return 1;
}

/* A packet to a server behind a tunnel. */
GLOBAL int tunnelled(struct xdp_md *ctx, struct generation *g, __u32 l3)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct scratch *x = get_scratch();
	struct counters *c;
	struct inner in;
	struct tunnel *t;
	__u32 id, room;
	__u64 tags;

	if (!g || !x || l3 > L3_MAX || data + L3_MAX > end)
		return XDP_DROP;
	id = x->way;
	t = get_tunnel(g, id);
	if (!(mac_word(t) & MAC_BITS)) {
		/* The flow stays where it is; TCP will try again. */
		count(REASON_NO_MAC);
		return XDP_DROP;
	}
	if (!look_inside(&in, ip_at(data, l3), end, (__be16)x->how))
		return XDP_DROP;
	if (in.bytes > t->most) {
		if (in.protocol == IPPROTO_IPIP)
			return too_big4(ctx, g, l3, t->most);
		return too_big6(ctx, g, l3, t->most);
	}
	if (in.first) {
		fragment_store4(ctx, l3, id);
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		if (data + L3_MAX > end)
			return XDP_DROP;
	}

	tags = ether_tags(data);
	room = t->kind & TUNNEL_IPV6 ? sizeof(struct ip6) : sizeof(struct iphdr);
	if (t->kind & TUNNEL_GUE)
		room += GUE_ROOM;
	if (bpf_xdp_adjust_head(ctx, -(int)room)) {
		count(REASON_TUNNEL_NO_ROOM);
		return XDP_DROP;
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + L3_MAX > end)
		return XDP_DROP;
	if (t->kind & TUNNEL_IPV6) {
		set_ether(data, l3, tags, bpf_htons(ETH_P_IPV6));
		if (!write_outer6(ip_at(data, l3), end, t, &in))
			return XDP_DROP;
	} else {
		set_ether(data, l3, tags, bpf_htons(ETH_P_IP));
		if (!write_outer4(ip_at(data, l3), end, t, &in))
			return XDP_DROP;
	}
	count(REASON_TUNNELLED);
	if (g->ndevices)
		return egress(ctx, g, EGRESS_WHAT(id, x->how / HOW_CONNECTION, in.bytes));
	c = bpf_map_lookup_elem(&server_stats, &id);
	if (c) {
		c->packets++;
		c->bytes += in.bytes;
		c->connections += x->how / HOW_CONNECTION;
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + L3_MAX > end)
		return XDP_DROP;
	return send_to(g, data, mac_word(t));
}

/* What forward() left to do: a packet to a server that has no MAC of its own. */
GLOBAL int elsewhere(struct xdp_md *ctx, struct generation *g, __u32 l3)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct scratch *x = get_scratch();
	struct iphdr *ip;

	if (!g || !x || l3 > L3_MAX)
		return XDP_DROP;
	if (get_tunnel(g, x->way)->kind)
		return tunnelled(ctx, g, l3);
	/* The flow stays where it is, and a datagram with its first fragment. */
	ip = ip_at(data, l3);
	if ((void *)(ip + 1) <= end && ip->version == 4 &&
	    (ip->frag_off & bpf_htons(IP_FRAGMENT)) == bpf_htons(IP_FRAGMENT & ~IP_OFFSET))
		fragment_store4(ctx, l3, x->way);
	return egress(ctx, g, EGRESS_WHAT(x->way, x->how / HOW_CONNECTION, x->bytes));
}

#endif
