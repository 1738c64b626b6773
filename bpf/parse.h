/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From bytes to a packet. Nothing here decides what becomes of it. */
#ifndef SYSTOLE_PARSE_H
#define SYSTOLE_PARSE_H

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

#define IP_FRAGMENT 0x3fff /* MF and offset, RFC 791 section 3.1 */

/* The 13th byte of a TCP header, RFC 9293 section 3.1. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* What the rest of the program needs to know of an IPv4 packet. */
struct packet {
	struct ethhdr *eth;
	__u32 bytes;  /* of IP */
	__be32 saddr;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 flags;   /* TCP's; 0 for UDP */
};

/* As much of TCP and UDP as both have: the ports; then TCP's flags. */
struct l4 {
	__be16 sport;
	__be16 dport;
};
#define TCP_FLAGS_OFFSET 13
#define TCP_MIN 20
#define UDP_MIN 8

static __always_inline int is_group(const __u8 *mac)
{
	return mac[0] & 1;
}

/* Not 0 if they differ. MACs stand at even offsets in frames and in maps. */
static __always_inline __u64 mac_difference(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;
	return (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]);
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
	} else {
		if (at + UDP_MIN > end)
			return 0;
		p->flags = 0;
	}
	p->sport = ports->sport;
	p->dport = ports->dport;
	return 1;
}

/* A SYN that opens a connection, and nothing else. */
static __always_inline int opens(const struct packet *p)
{
	if (p->protocol != IPPROTO_TCP)
		return 1;
	return (p->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

#endif
