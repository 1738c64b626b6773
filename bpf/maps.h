/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Everything that outlives a packet. All maps are arrays: an array look-up
 * with a computed index costs next to nothing, a hash look-up 26 ns. What user
 * space writes in bulk, or reads while packets flow, is BPF_F_MMAPABLE, which
 * also aligns the elements to pages and with them to cache lines.
 */
#ifndef SYSTOLE_MAPS_H
#define SYSTOLE_MAPS_H

#include "consts.h"

struct vip {
	__be32 addr;
	__u32 role;  /* enum role; ROLE_NONE: empty */
	__u32 since; /* when it became active here, in age units */
	__u16 first_range; /* index into ranges */
	__u16 ranges;
};

/* A virtual service. Its key is service_key() of schedule.h; 0: empty. */
struct service {
	__u64 key;
	__u32 first_slot; /* index into slots */
	__u32 slots;      /* 0: no eligible server */
	__u16 id;         /* stable over generations, 1.. */
	__u16 flags;      /* enum service_flags */
	__be32 client_mask; /* of persistence */
};

/* The same for IPv6; a table of its own, so that IPv4's stays small. */
struct vip6 {
	__be32 addr[4];
	__u32 role;
	__u32 since;
	__u16 first_range;
	__u16 ranges;
};

/* The service's key has its port and protocol only; 0: empty. */
struct service6 {
	__be32 addr[4];
	struct service service;
	__u64 client_mask[2]; /* instead of the service's */
};

/*
 * A real server of one service, by its id. The MAC is all zero while it is not
 * known, and if there are several interfaces (egress.h). Service 0: the id is
 * not in this generation. With SERVER_LEFT it is no
 * longer in the service, but keeps the flows it had.
 */
struct server {
	__u8 mac[6];
	__u16 service;
};

/*
 * The way to real servers behind a tunnel (tunnel.h). The servers' own entries
 * have no MAC then. It is all zero while the next hop is not known.
 */
struct tunnel {
	__u8 mac[6];      /* of the next hop: the server or a router */
	__u8 kind;        /* enum tunnel_kind */
	__u8 pad;
	__be32 source[4]; /* outer addresses; IPv4: the first word */
	__be32 target[4];
	__be16 port;      /* of GUE */
	__u16 most;       /* bytes of IP that fit in, host byte order */
};

/* A service of many ports: of all, or a range. */
struct port_range {
	__u16 first; /* host byte order */
	__u16 last;
	__u16 place; /* of the service, index into services or services6 */
	__u16 protocol;
};

/* Age at which an entry of a service counts as free; in age units. */
struct timeouts {
	__s32 by_state[FLOW_STATES]; /* enum flow_state; below 0: always */
};

struct mac {
	__u8 addr[6];
	__u16 via; /* of a peer, with several interfaces: enum via; else 0 */
};

/* One of several interfaces, as frames leave by it. */
struct port {
	__u8 mac[6];
	__u16 native;  /* 0 or 1: it takes frames of native XDP */
	__u32 ifindex; /* to redirect to; 0: it is gone */
	__u32 pad;
};

/* A server that is behind another interface, or may be. */
struct far {
	__u8 mac[6]; /* all zero: not known */
	__u16 via;   /* enum via */
};

/* What a frame comes in by: a port, or the member of a bond that is one. */
struct device {
	__u32 ifindex;
	__u16 port;   /* index into ports */
	__u16 native; /* 0 or 1: what it redirects must be taken in the driver */
};

/*
 * All of the configuration. There are two: user space writes the idle one,
 * then flips state.active. A packet reads that word once and uses one
 * generation to its end, so it cannot see a mixture.
 */
struct generation {
	__u64 number; /* 1.. ; 0: never written */
	__u64 vip_seed;     /* odd multipliers of the two perfect hashes */
	__u64 service_seed;
	struct mac own;
	struct mac peers[MAX_PEERS];
	__u32 npeers;
	__u32 second_chance; /* 0 or 1 */
	__u16 vip_shift[VIP_BUCKETS];
	struct vip vips[VIP_TABLE];
	__u16 service_shift[SERVICE_BUCKETS];
	struct service services[SERVICE_TABLE];
	struct server servers[SERVER_IDS];
	__u16 slots[SLOTS]; /* server ids, in the order of their turn */
	__u64 vip6_seed[4]; /* multipliers of IPv6's hashes: one for each word */
	__u64 service6_seed[5];
	__u16 vip6_shift[VIP6_BUCKETS];
	struct vip6 vips6[VIP6_TABLE];
	__u16 service6_shift[SERVICE6_BUCKETS];
	struct service6 services6[SERVICE6_TABLE];
	struct port_range ranges[RANGES]; /* of one address together, narrow ones first */
	struct timeouts timeouts[SERVICE_IDS]; /* by service id, all of them; 0: of fragments */
	__u32 ndevices; /* 0: one interface, egress.h is not needed */
	struct device devices[MAX_DEVICES];
	struct port ports[MAX_PORTS];
	struct far far[SERVER_IDS]; /* by server id, of those without a MAC above */
	__u16 tunnel_of[SERVER_IDS]; /* index into tunnels; 0: the server has none */
	struct tunnel tunnels[TUNNELS];
};

/*
 * One element, so that one look-up with a constant index finds it all. The
 * first words change without a new generation.
 */
struct state {
	__u64 lease_until; /* jiffies; 0: ended; ~0: unlimited */
	__u32 active;      /* which generation, 0 or 1 */
	__u32 pad;
	__u64 seed[2];     /* of the flow hash; they go with the flow table */
	struct generation generation[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
	__uint(map_flags, BPF_F_MMAPABLE);
} state SEC(".maps");

/* One entry of the flow table; flow.h has the meaning of the bits. */
struct flow {
	__u64 key;
	__u64 val;
};

/* One cache line. */
struct bucket {
	struct flow way[WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 262144); /* set at load time, a power of two */
	__type(key, __u32);
	__type(value, struct bucket);
	__uint(map_flags, BPF_F_MMAPABLE);
} flows SEC(".maps");

/* An entry of the other two tables; flow6.h has the meaning of the words. */
struct flow6 {
	__u64 client[2];
	__u64 port;
	__u64 val;
};

/* Two cache lines, which processors fetch as a pair. */
struct bucket6 {
	struct flow6 way[WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072); /* set at load time, a power of two */
	__type(key, __u32);
	__type(value, struct bucket6);
	__uint(map_flags, BPF_F_MMAPABLE);
} flows6 SEC(".maps");

/* Of both families: which server has a datagram that comes in fragments. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FRAGMENT_BUCKETS);
	__type(key, __u32);
	__type(value, struct bucket6);
	__uint(map_flags, BPF_F_MMAPABLE);
} fragments SEC(".maps");

/* Round robin: one counter per service id, each in its own cache line. */
struct turn {
	__u64 next;
	__u64 pad[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICE_IDS);
	__type(key, __u32);
	__type(value, struct turn);
	__uint(map_flags, BPF_F_MMAPABLE);
} turns SEC(".maps");

struct counters {
	__u64 packets;
	__u64 bytes; /* of IP: the Ethernet header is not counted */
	__u64 connections;
};

/*
 * By server id. A server belongs to one service, so user space gets a
 * service's counters by adding those of its servers: one look-up per packet
 * instead of two.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SERVER_IDS);
	__type(key, __u32);
	__type(value, struct counters);
} server_stats SEC(".maps");

struct reasons {
	__u64 count[32];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reasons);
} reason_stats SEC(".maps");

/*
 * The memory of user space, in the kernel so that it survives a crash: which
 * id belongs to which service and server. No program reads these two.
 */
struct service_name {
	__u8 vip[16]; /* IPv4 as the first four bytes */
	__u16 port;   /* host byte order */
	__u8 protocol;
	__u8 family;  /* 4 or 6; 0: the id is free */
	__u16 last_port; /* of a range; else 0 */
	__u16 pad;
	struct counters gone; /* of its servers whose ids were taken back */
};

struct server_name {
	__u8 addr[16];
	__u16 service; /* id */
	__u8 family;   /* 4 or 6; 0: the id is free */
	__u8 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICE_IDS);
	__type(key, __u32);
	__type(value, struct service_name);
	__uint(map_flags, BPF_F_MMAPABLE);
} service_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVER_IDS);
	__type(key, __u32);
	__type(value, struct server_name);
	__uint(map_flags, BPF_F_MMAPABLE);
} server_names SEC(".maps");

/* The first three words of a struct flow6. */
struct key6 {
	__u64 client[2];
	__u64 port;
};

/* The best place in one bucket for a new entry; see flow6.h. */
struct place6 {
	__u64 score; /* victim() of flow.h; 0: none may be taken */
	__u64 val;   /* as it was judged */
};

/*
 * What would be too much for the stack, which has 512 bytes for all functions
 * that call each other. It holds nothing from one packet to the next.
 */
struct scratch {
	struct key6 key;
	struct key6 datagram;
	struct key6 vip;
	struct key6 template;
	struct place6 best;
	struct place6 second;
	__u64 fragment; /* WALK_FRAGMENT of ipv6.h */
	__u64 server;   /* that the packet goes to; 0: none */
	__u32 way;      /* server to which elsewhere() is to find the way */
	__u32 how;      /* HOW_CONNECTION and the client's port */
	__u32 bytes;    /* of IP */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

static __always_inline struct scratch *get_scratch(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&scratch, &zero);
}

/*
 * Constants of one load: the verifier sees their values, so they cost nothing.
 * The flow seeds are copied here from struct state.
 */
const volatile __u32 bucket_mask = 0;
const volatile __u64 flow_seed0 = 0;
const volatile __u64 flow_seed1 = 1; /* odd */
const volatile __u32 bucket6_mask = 0;
const volatile __u64 flow6_seed[5] = {}; /* secret too; odd */
/* An age is counted in units of 2^age_shift jiffies, about a second. */
const volatile __u32 age_shift = 8;

/*
 * The address of the one element, not the map: Director() and Observer() of the
 * Go package see to it. Each use is one instruction, and no register is needed
 * to remember it.
 */
static __always_inline struct state *get_state(void)
{
	struct state *s;

	asm volatile("%0 = %1 ll" : "=r"(s) : "i"(&state));
	return s;
}

static __always_inline struct generation *active_generation(struct state *s)
{
	return &s->generation[*(const volatile __u32 *)&s->active & 1];
}

/*
 * What is not static is verified once and by itself, not again on each way to
 * it: the kernel's check of the whole program stays short.
 */
#define GLOBAL __attribute__((noinline))

#ifndef SYSTOLE_OBSERVE /* observe.c has its own */
/* Out of line: a call costs 6 ns, but none of the packets that matter pays. */
GLOBAL int count(__u32 why)
{
	__u32 zero = 0;
	struct reasons *r = bpf_map_lookup_elem(&reason_stats, &zero);

	if (r)
		r->count[why & 31]++;
	return 0;
}
#endif

/*
 * A zero of which neither the compiler nor the verifier knows. An index it was
 * added to is just some index: the verifier need not follow each value of it
 * through everything that comes after.
 */
static __always_inline __u64 unknown_zero(__u64 any)
{
	__u64 zero = any;

	asm volatile("%0 -= %1" : "+r"(zero) : "r"(any));
	return zero;
}

#endif
