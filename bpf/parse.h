/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From bytes to a packet. Nothing here decides what becomes of it. */
#ifndef SYSTOLE_PARSE_H
#define SYSTOLE_PARSE_H

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

#define IP_FRAGMENT 0x3fff /* MF and offset, RFC 791 section 3.1 */
#define IP_OFFSET 0x1fff

/* VLAN tags: 802.1Q and 802.1ad. */
#define ETH_TAG 0x8100
#define ETH_SERVICE_TAG 0x88a8
#define TAG_LEN 4
#define L3_MAX (ETH_HLEN + 2 * TAG_LEN)

/* The 13th byte of a TCP header, RFC 9293 section 3.1. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* What the rest of the program needs to know of a packet. */
struct packet {
	struct xdp_md *ctx;
	struct ethhdr *eth;
	__u32 l3;              /* where IP begins */
	__u32 outermost;       /* no function was called for it: a constant */
	__u32 bytes;           /* of IP */
	__u32 first;           /* IPv4, not 0: the first fragment of several */
	__be32 saddr;          /* IPv4 */
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 flags;            /* TCP's, what is like them of SCTP's; 0 for UDP */
};

/* As much of TCP, UDP and SCTP as all have: the ports; then TCP's flags. */
struct l4 {
	__be16 sport;
	__be16 dport;
};
#define TCP_FLAGS_OFFSET 13
#define TCP_MIN 20
#define UDP_MIN 8

/* SCTP's header is followed by the first chunk's, RFC 9260 section 3. */
#define SCTP_MIN 16
#define SCTP_CHUNK_OFFSET 12
#define SCTP_INIT 1
#define SCTP_ABORT 6
#define SCTP_SHUTDOWN 7
#define SCTP_SHUTDOWN_ACK 8
#define SCTP_SHUTDOWN_COMPLETE 14

static __always_inline int is_group(const __u8 *mac)
{
	return mac[0] & 1;
}

/* Not 0 if they differ; below 2^32. */
static __always_inline __u64 mac_difference(const void *a, const void *b)
{
	const __u32 *head_a = a, *head_b = b;
	const __u16 *tail_a = a + 4, *tail_b = b + 4;

	return (*head_a ^ *head_b) | (*tail_a ^ *tail_b);
}

static __always_inline int same_mac(const void *a, const void *b)
{
	return !mac_difference(a, b);
}

/* One load: the kernel's struct is packed, which the compiler takes at its word. */
static __always_inline __be16 ether_type(const struct ethhdr *eth)
{
	return ((const __be16 *)eth)[6];
}

/*
 * The IP header, at l3 <= L3_MAX. The mask is for Linux 6.1, which forgets the
 * bound of a number of 32 bits that the compiler keeps on the stack.
 */
static __always_inline void *ip_at(void *data, __u32 l3)
{
	__u64 at = l3;

	asm volatile("%0 &= 31" : "+r"(at));
	return data + at;
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/*
 * The life of an association in TCP's words, which is how IPVS has it too: only
 * INIT opens one. INIT is always the only chunk of its packet, and what ends
 * an association is its packet's first.
 */
static __always_inline __u8 sctp_flags(__u8 chunk)
{
	switch (chunk) {
	case SCTP_INIT:
		return TCP_SYN;
	case SCTP_ABORT:
	case SCTP_SHUTDOWN:
	case SCTP_SHUTDOWN_ACK:
	case SCTP_SHUTDOWN_COMPLETE:
		return TCP_FIN | TCP_ACK;
	}
	return TCP_ACK;
}

/*
 * Opens the transport header at l4 and fills the ports and flags. Returns 0 if
 * the frame ends before the header does.
 */
static __always_inline int parse_l4(struct packet *p, void *at, void *end)
{
	struct l4 *ports = at;
	__u8 *byte = at;

	if (p->protocol == IPPROTO_TCP) {
		if (at + TCP_MIN > end)
			return 0;
		p->flags = byte[TCP_FLAGS_OFFSET];
	} else if (p->protocol == IPPROTO_SCTP) {
		if (at + SCTP_MIN > end)
			return 0;
		p->flags = sctp_flags(byte[SCTP_CHUNK_OFFSET]);
	} else {
		if (at + UDP_MIN > end)
			return 0;
		p->flags = 0;
	}
	p->sport = ports->sport;
	p->dport = ports->dport;
	return 1;
}

/* A SYN that opens a connection, and nothing else; any datagram. */
static __always_inline int opens(const struct packet *p)
{
	if (p->protocol == IPPROTO_UDP)
		return 1;
	return (p->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

#endif
