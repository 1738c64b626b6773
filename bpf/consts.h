/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The numbers that kernel side and user space share. bpf2go turns the enums
 * into Go constants and the table sizes into the lengths of Go arrays, so that
 * nothing is written down twice.
 */
#ifndef SYSTOLE_CONSTS_H
#define SYSTOLE_CONSTS_H

/*
 * Version of the meaning of every pinned map. A program may adopt the maps of
 * its predecessor only if both agree on it: raise it with every change of a
 * struct in maps.h, of the hash in flow.h, or of an enum below.
 */
enum layout {
	LAYOUT_VERSION = 2,
};

/*
 * Capacity. The hash tables are twice as large as what they hold, which makes
 * the search for a perfect hash short. All are powers of two: an index is
 * bounded by a mask, which the verifier understands.
 */
#define VIP_TABLE 2048      /* for 1024 virtual addresses */
#define VIP_BUCKETS 1024
#define SERVICE_TABLE 32768 /* for 16383 services */
#define SERVICE_BUCKETS 16384
#define SERVICE_IDS 16384   /* id 0 means none */
#define SERVER_IDS 16384    /* id 0 means none */
#define SLOTS 262144
#define RANGES 1024
#define RANGES_PER_VIP 16
#define SERVER_LEFT 0x8000 /* of server.service: it has left, its flows stay */
#define MAX_PEERS 8
#define WAYS 4
#define VIP6_TABLE 2048     /* the same for IPv6 */
#define VIP6_BUCKETS 1024
#define SERVICE6_TABLE 32768
#define SERVICE6_BUCKETS 16384
#define FRAGMENT_BUCKETS 1024 /* of WAYS datagrams each */
#define MAX_PORTS 16        /* interfaces of the configuration; egress.h */
#define MAX_DEVICES 64      /* and those below them: members of bonds */
#define TUNNELS 4096 /* ways to real servers; 0 means none */
#define QUIC_TABLE 32768 /* for the server IDs of all real servers; quic.h */
#define QUIC_BUCKETS 16384

/* What a director does with the traffic of a virtual address. */
enum role {
	ROLE_NONE = 0, /* an empty place in the table */
	ROLE_STANDBY = 1,
	ROLE_ACTIVE = 2,
	ROLE_DRAINING = 3,
};

/* The life of a flow, seen from the client's half of it. */
enum flow_state {
	FLOW_FREE = 0,
	FLOW_SYN = 1,         /* on probation: a SYN and nothing else yet */
	FLOW_ESTABLISHED = 2, /* the client acknowledged something */
	FLOW_FIN = 3,         /* the client sent FIN or RST */
	FLOW_UDP = 4,
	FLOW_BUSY = 5,        /* another CPU is writing this entry */
	FLOW_TEMPLATE = 6,    /* no flow: the server of a persistent client */
	FLOW_TEMPLATE_SYN = 7, /* the same on probation: it sent only SYNs */
	FLOW_STATES = 8,
};

/* What is special about a service. */
enum service_flags {
	SERVICE_HASH = 1,       /* the client's address chooses the slot */
	SERVICE_HASH_PORT = 2,  /* and its port */
	SERVICE_ONE_PACKET = 4, /* UDP without flows */
	SERVICE_PERSISTENT = 8, /* a client stays on its server */
	SERVICE_RESCHEDULE = 16, /* flows of a server that left get another */
	SERVICE_KEEP = 32,       /* such flows go on to it */
	SERVICE_FAST = 64, /* by flows, and its address is served here: fast.h */
	SERVICE_LEAST = 128, /* who has the fewest connections: least.h */
	SERVICE_QUIC = 4096, /* times the length of its servers' IDs in bytes: quic.h */
};

/* By which interface a server or peer is reached, where there are several. */
enum via {
	VIA_ANY = 1,    /* the one that the packet came in by */
	VIA_PORT = 2,   /* and above: generation.ports[via - VIA_PORT] */
	VIA_NONE = 255, /* none of ours */
};

/* What stands before a packet that is sent through a tunnel; 0: no tunnel. */
enum tunnel_kind {
	TUNNEL_IPV4 = 1, /* the outer header is IPv4 */
	TUNNEL_IPV6 = 2, /* or IPv6 */
	TUNNEL_GUE = 4,  /* and UDP follows it */
};

/*
 * What became of a packet for a virtual address other than being forwarded by
 * an existing flow. Packets for other addresses are not counted at all.
 */
enum reason {
	REASON_LEASE_ENDED = 0,  /* dropped: the right to the address ran out */
	REASON_ARP_LEASE_ENDED,  /* dropped: the same, an ARP request */
	REASON_ARP_DRAINING,     /* dropped: ARP request for an address let go */
	REASON_STANDBY,          /* passed: another director's address */
	REASON_OTHER_PROTOCOL,   /* passed: no TCP, UDP or SCTP (ping ...) */
	REASON_FRAGMENT,         /* passed: a fragment that came before its first */
	REASON_MALFORMED,        /* passed: lengths contradict each other */
	REASON_NO_SERVICE,       /* passed: nothing configured on this port */
	REASON_NO_SERVER,        /* passed: no eligible real server */
	REASON_NO_FLOW,          /* passed: TCP segment without a flow, no SYN */
	REASON_SERVER_GONE,      /* passed: TCP segment, its server has left */
	REASON_PEER_NO_FLOW,     /* passed: came from a peer, no flow here either */
	REASON_SECOND_CHANCE,    /* sent to the first peer */
	REASON_NO_MAC,           /* dropped: the server's MAC is not known now */
	REASON_SYN_EVICTED,      /* stored by evicting a flow on probation */
	REASON_FLOW_EVICTED,     /* stored by evicting a live flow */
	REASON_FLOW_NOT_STORED,  /* forwarded, but lost the race for an entry */
	REASON_ND_LEASE_ENDED,   /* dropped: lease ended, a neighbour solicitation */
	REASON_ND_DRAINING,      /* dropped: the same for an address let go */
	REASON_FLOW_LIMIT,       /* forwarded without a flow: too many new ones */
	REASON_OTHER_INTERFACE,  /* passed: its server is behind none of ours */
	REASON_INTERFACE_GONE,   /* dropped: that to its server is gone */
	REASON_NO_REDIRECT,      /* passed: that to its server takes no frame of XDP's */
	REASON_TUNNELLED,        /* forwarded in a tunnel */
	REASON_TUNNEL_TOO_BIG,   /* sent back: an error, too big for the tunnel */
	REASON_TUNNEL_SILENT,    /* dropped: the same, but too many such errors */
	REASON_TUNNEL_FRAGMENT,  /* passed: too big, but it may be fragmented */
	REASON_TUNNEL_NO_ROOM,   /* dropped: no room before the frame */
	REASON_QUIC_KEPT,        /* to the server that its connection ID names */
	REASON_QUIC_UNKNOWN,     /* scheduled: its connection ID names none */
	REASONS,
};

#endif
