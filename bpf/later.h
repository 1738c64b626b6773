/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A fragment that is not the first: the rest of fragment.h. */
#ifndef SYSTOLE_LATER_H
#define SYSTOLE_LATER_H

#include "early.h"
#include "forward.h"

static __always_inline int fragment_later(struct generation *g, struct packet *p, struct key6 *k,
					  int ended)
{
	__u32 id = fragment_server(k);
	struct server *s;

	OPAQUE(id); /* that it is below SERVER_IDS the verifier must see here */
	s = get_server(g, id);
	if (!id) {
		if (!ended)
			keep_early(p->ctx, k);
		return leave(ended, REASON_FRAGMENT);
	}
	if (!s->service)
		return leave(ended, REASON_SERVER_GONE);
	return forward(g, p, s, id, 0);
}

GLOBAL int fragment4_later(struct xdp_md *ctx, struct generation *g, __u32 l3, int ended)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet p = { .ctx = ctx, .eth = data };
	struct scratch *x = get_scratch();
	struct iphdr *ip;

	if (!g || !x || l3 > L3_MAX || data + ETH_HLEN > end)
		return XDP_PASS;
	ip = ip_at(data, l3);
	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	fragment_key4(&x->datagram, ip);
	p.bytes = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || p.bytes > end - (void *)ip)
		return leave(ended, REASON_MALFORMED);
	return fragment_later(g, &p, &x->datagram, ended);
}

#endif
