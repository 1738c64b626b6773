/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ICMP errors. A router on the way to a client that cannot deliver what a real
 * server sent says so to the packet's source: the virtual address. The error
 * quotes the packet's head, of its transport header perhaps no more than eight
 * bytes (RFC 792), which are enough: the ports of the flow, seen from the server.
 * The error goes to that server, which is the one that must send smaller
 * packets (RFC 1191) or give up; it does not touch the flow.
 *
 * What quotes no flow of ours gets a second chance at a peer, or passes. Echo
 * and the rest of ICMP is for the kernel.
 */
#ifndef SYSTOLE_ICMP_H
#define SYSTOLE_ICMP_H

#include "flow.h"
#include "forward.h"
#include "schedule.h"

#define ICMP_UNREACHABLE 3 /* and "fragmentation needed" */
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMP_HEADER 8 /* of an error, RFC 792; of ICMPv6 too */

static __always_inline int icmp_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER;
}

/* What becomes of a packet that has no flow and opens none. */
static __always_inline int lost(struct generation *g, const struct packet *p, int ended,
				int peer)
{
	if (peer || from_peer(g, p->eth))
		return leave(ended, REASON_PEER_NO_FLOW);
	if (!g->second_chance || !g->npeers)
		return leave(ended, REASON_NO_FLOW);
	return send_to_peer(g, p);
}

GLOBAL int icmp4(struct xdp_md *ctx, struct generation *g, __u32 l3, int ended, int peer)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet p = { .ctx = ctx, .eth = data };
	struct iphdr *ip, *quoted;
	struct service *svc;
	struct server *s;
	struct flow *f;
	struct l4 *ports;
	__u64 key, val = 0;
	__u8 *icmp;

	if (!g || l3 > L3_MAX || data + ETH_HLEN > end)
		return XDP_PASS;
	ip = ip_at(data, l3);
	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT))
		return leave(ended, REASON_OTHER_PROTOCOL);
	p.bytes = bpf_ntohs(ip->tot_len);
	icmp = (void *)ip + ip->ihl * 4;
	quoted = (void *)icmp + ICMP_HEADER;
	if (ip->version != 4 || ip->ihl < 5 || p.bytes > end - (void *)ip ||
	    (void *)(quoted + 1) > end || !icmp_error(*icmp) || quoted->version != 4 ||
	    quoted->ihl < 5 || quoted->saddr != ip->daddr || !has_ports(quoted->protocol) ||
	    quoted->frag_off & bpf_htons(IP_OFFSET))
		return leave(ended, REASON_OTHER_PROTOCOL);
	ports = (void *)quoted + quoted->ihl * 4;
	if ((void *)(ports + 1) > end)
		return leave(ended, REASON_OTHER_PROTOCOL);

	p.protocol = quoted->protocol;
	p.saddr = quoted->daddr;
	p.sport = ports->dport;
	p.dport = ports->sport;
	key = service_key(quoted->saddr, p.dport, p.protocol);
	svc = find_service(g, vip_place(g, ip->daddr), key, p.dport, p.protocol);
	if (!svc)
		return leave(ended, REASON_NO_SERVICE);
	key = flow_key(&p);
	f = flow_find(key, flow_hash(key), svc->id, &val);
	if (!f)
		return lost(g, &p, ended, peer);
	s = get_server(g, FLOW_SERVER(val));
	if (!stays(svc, s))
		return leave(ended, REASON_SERVER_GONE);
	return forward(g, &p, s, FLOW_SERVER(val), 0);
}

#endif
