/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Persistence: all flows of a client, or of a network of clients, go to one
 * server. Which one is remembered by a template: an entry of the flow table
 * with the masked address and both ports 0, which no flow has.
 *
 * IPVS begins a template's time anew with each connection and holds the
 * template while it has one. Here it begins anew with each packet, to the age
 * unit: so it never ends sooner, but for a client whose every connection is
 * silent for longer than the time of persistence.
 *
 * A template made by a SYN is on probation like the flow, so that a flood does
 * not push out others.
 */
#ifndef SYSTOLE_PERSIST_H
#define SYSTOLE_PERSIST_H

#include "flow.h"
#include "schedule.h"

static __always_inline __u64 template_key(const struct service *svc, const struct packet *p)
{
	return (__u64)(p->saddr & svc->client_mask) << 32;
}

/* The server of the client's template, 0 if there is none that is any use. */
static __always_inline __u32 template_server(struct generation *g, const struct service *svc,
					     const struct packet *p, __u32 now)
{
	__u64 key = template_key(svc, p), val = 0;

	if (!flow_find(key, flow_hash(key), svc->id, &val) || flow_expired(g, val, now) ||
	    get_server(g, FLOW_SERVER(val))->service != svc->id)
		return 0;
	return FLOW_SERVER(val);
}

/* Puts val in the place of was; without set only if it has the same server. */
static __always_inline int set_template(__u64 *at, __u64 was, __u64 val, int set)
{
	if (FLOW_SERVER(was) != FLOW_SERVER(val)) {
		if (!set)
			return 0;
	} else if (FLOW_STATE(was) == FLOW_TEMPLATE) {
		val = (val & ~FLOW_STATE_MASK) | FLOW_STATE_BITS(FLOW_TEMPLATE);
	}
	val |= FLOW_VERSION(was);
	if (val != was)
		__sync_val_compare_and_swap(at, was, val);
	return 0;
}

/*
 * Makes the template young and, if it has another server, lets it be; with set
 * it gets this one. It runs for a new flow, and once per age unit for one that
 * exists. A global function: the verifier looks at it once. Returns 0.
 */
GLOBAL int template_store(__u64 key, __u64 val, int set)
{
	__u64 was = 0;
	struct flow *f = flow_find(key, flow_hash(key), FLOW_SERVICE(val), &was);

	if (!f)
		return flow_store(key, val);
	return set_template(&f->val, was, val, set);
}

/* A template for the state that the flow has. */
static __always_inline __u64 template_val(const struct service *svc, __u32 server, __u32 state,
					  __u32 now)
{
	state = state == FLOW_SYN ? FLOW_TEMPLATE_SYN : FLOW_TEMPLATE;
	return FLOW_VAL(svc->id, server, state, 0, now);
}

static __always_inline void template_set(const struct service *svc, const struct packet *p,
					 __u32 server, __u32 state, __u32 now)
{
	template_store(template_key(svc, p), template_val(svc, server, state, now), 1);
}

static __always_inline void template_refresh(const struct service *svc, const struct packet *p,
					     __u32 server, __u32 state, __u32 now)
{
	template_store(template_key(svc, p), template_val(svc, server, state, now), 0);
}

#endif
