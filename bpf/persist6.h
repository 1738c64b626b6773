/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* persist.h for IPv6: a template has the masked address and both ports 0. */
#ifndef SYSTOLE_PERSIST6_H
#define SYSTOLE_PERSIST6_H

#include "flow6.h"
#include "persist.h"
#include "schedule.h"

static __always_inline void template6_key(struct key6 *t, const struct service6 *svc,
					  const struct key6 *flow)
{
	t->client[0] = flow->client[0] & svc->client_mask[0];
	t->client[1] = flow->client[1] & svc->client_mask[1];
	t->port = flow6_port(svc->service.id, 0, 0);
}

/* The server of a template, 0 if there is none that is any use. */
GLOBAL int template6_server(struct generation *g, struct key6 *t, __u32 now)
{
	__u64 val = 0;

	if (!g || !t || !flow6_find(t, flow6_hash(t), &val) || flow_expired(g, val, now) ||
	    get_server(g, FLOW_SERVER(val))->service != t->port >> 32)
		return 0;
	return FLOW_SERVER(val);
}

/* Whether there is none; if there is one, it is what template_store() makes of it. */
GLOBAL int template6_missing(struct key6 *t, __u64 val, int set)
{
	struct flow6 *f;
	__u64 was = 0;

	if (!t)
		return 0;
	f = flow6_find(t, flow6_hash(t), &was);
	if (!f)
		return 1;
	return set_template(&f->val, was, val, set);
}

/* template_store() for IPv6; in two, since the stack is too small for the chain. */
static __always_inline void template6_store(struct key6 *t, __u64 val, int set)
{
	if (template6_missing(t, val, set))
		store6(0, flow6_hash(t), t, val);
}

#endif
