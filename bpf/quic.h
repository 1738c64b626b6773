/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * QUIC connections outlive their client's address: a NAT forgets a mapping, a
 * telephone changes from one network to another. What stays is the connection
 * ID, which the server chose; with the plaintext form of QUIC-LB
 * (draft-ietf-quic-load-balancers) it says which server that was:
 *
 *	byte 0     three bits of configuration, five that are the server's own
 *	byte 1..n  the server's ID, in the clear
 *	then       what the server likes
 *
 * The three bits tell configurations apart while servers change from one to
 * the next. Here there is one; all of them set means that there is no ID.
 *
 * It is asked only of a datagram that has no flow, of a service that wants it.
 * A server that the ID names gets the flow even if it gets no new connections:
 * this is none. So a director that lacks the flows (after a crash, say) finds
 * the servers of QUIC connections all the same.
 *
 * A connection ID that the client has chosen says nothing, though its bytes may
 * be some server's. They stand in Initial and 0-RTT packets (RFC 9000 section
 * 7.2), which are scheduled. Handshake packets have the server's, and so have
 * all with a short header, which is all that the first bit says in any version
 * (RFC 8999). The second bit need not be set (RFC 9287).
 */
#ifndef SYSTOLE_QUIC_H
#define SYSTOLE_QUIC_H

#include "ipv6.h"
#include "maps.h"
#include "parse.h"
#include "schedule.h"

/* The server with an ID, of one service. Service 0: an empty place. */
struct quic_id {
	__u64 id; /* its bytes, the first is the lowest; what is beyond is 0 */
	__u16 service;
	__u16 server;
	__u32 pad;
};

/* Of one generation, as a perfect hash (schedule.h). */
struct quic_ids {
	__u64 seed[3]; /* multipliers of the ID's halves and of the service */
	__u32 used;
	__u32 pad;
	__u16 shift[QUIC_BUCKETS];
	struct quic_id ids[QUIC_TABLE];
};

/* By the lowest bit of the generation's number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct quic_ids);
	__uint(map_flags, BPF_F_MMAPABLE);
} quic_ids SEC(".maps");

#define QUIC_LONG 0x80 /* of the first byte: a long header, RFC 8999 section 5.1 */
#define QUIC_TYPE 0x30 /* the type of such a packet */
#define QUIC_1 bpf_htonl(1)              /* RFC 9000 */
#define QUIC_1_HANDSHAKE 0x20            /* section 17.2 */
#define QUIC_2 bpf_htonl(0x6b3343cf)     /* RFC 9369 */
#define QUIC_2_HANDSHAKE 0x30            /* section 3.2 */
#define QUIC_ID 1      /* where the connection ID is behind a short header's first byte */
#define QUIC_LONG_ID 6 /* and in a long one, after version and length */
#define QUIC_LONG_LENGTH 5
#define QUIC_ID_MOST 8 /* bytes of a server's ID */
#define QUIC_UNROUTABLE 7 /* the bits of configuration: no server's ID */

/* Less is no packet of QUIC: its authentication tag alone has 16 bytes, RFC 9001. */
#define QUIC_MIN (QUIC_LONG_ID + 1 + QUIC_ID_MOST)

static __always_inline int quic_handshake(__be32 version, __u8 first)
{
	return (version == QUIC_1 && (first & QUIC_TYPE) == QUIC_1_HANDSHAKE) ||
	       (version == QUIC_2 && (first & QUIC_TYPE) == QUIC_2_HANDSHAKE);
}

static __always_inline __u32 quic_find(struct generation *g, __u64 id, __u32 service)
{
	__u32 half = g->number & 1, h, at;
	struct quic_ids *t = bpf_map_lookup_elem(&quic_ids, &half);
	struct quic_id *e;

	if (!t)
		return 0;
	h = ((__u32)id * t->seed[0] + (id >> 32) * t->seed[1] + service * t->seed[2]) >> 32;
	at = h ^ t->shift[(h >> 16) & (QUIC_BUCKETS - 1)];
	e = &t->ids[at & (QUIC_TABLE - 1)];
	return e->id == id && e->service == service ? e->server : 0;
}

/* Where UDP begins, of a packet that is known to have it. */
static __always_inline __u64 quic_udp(struct xdp_md *ctx, const struct iphdr *ip, __u32 l3)
{
	const struct ip6 *six = (const void *)ip;
	__u64 at = l3 + ip->ihl * 4;

	if (ip->version == 6) {
		at = l3 + sizeof(*six);
		if (is_extension(six->next))
			at = WALK_OFFSET(walk(ctx, at, six->next));
	}
	asm volatile("%0 &= 0x3fff" : "+r"(at)); /* as in ip_at() */
	return at;
}

/*
 * The server that chose the connection ID of a datagram without a flow; 0 if
 * that is not said. IP begins at l3; what is QUIC_WHAT of the service.
 */
GLOBAL int quic_server(struct xdp_md *ctx, struct generation *g, __u32 l3, __u32 what)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 length = QUIC_LENGTH(what), server = 0;
	struct iphdr *ip;
	__u8 *quic, *id;
	__be16 *udp;

	if (!g || l3 > L3_MAX || !length || length > QUIC_ID_MOST)
		return 0;
	ip = ip_at(data, l3);
	if ((void *)ip + sizeof(struct ip6) > end)
		return 0;
	udp = data + quic_udp(ctx, ip, l3);
	quic = (void *)udp + UDP_MIN;
	/* Behind a short datagram is what Ethernet fills its frame up with. */
	if ((void *)quic + QUIC_MIN <= end && bpf_ntohs(udp[2]) >= UDP_MIN + QUIC_MIN) {
		id = quic + QUIC_ID;
		if (*quic & QUIC_LONG) {
			if (!quic_handshake(*(__be32 *)(quic + 1), *quic))
				return 0;
			id = quic + QUIC_LONG_ID;
			if (quic[QUIC_LONG_LENGTH] <= length)
				id = NULL;
		}
		if (id && *id >> 5 != QUIC_UNROUTABLE)
			server = quic_find(g, *(__u64 *)(id + 1) & ~0ULL >> (64 - 8 * length),
					   what & 0xffff);
	}
	count(server ? REASON_QUIC_KEPT : REASON_QUIC_UNKNOWN);
	return server;
}

#endif
