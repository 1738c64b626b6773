// Package bpf is the kernel side of the XDP plane: the C sources, the object
// compiled from them (committed, so that building Systole needs no clang) and
// the Go types bpf2go derives from it.
//
// The package decides nothing and loads nothing: package dataplane/xdp does.
// Its packet tests, one row per behaviour, are the list of what the program
// does with a packet.
//
// # Promises of the program
//
//  1. A packet that is not for a configured virtual address leaves as it came,
//     with XDP_PASS, at the cost of one probe of a table.
//
//     Most others, of a flow that goes on, take a short cut (fast.h), which
//     changes only how soon the answer is there.
//
//  2. Only the two MAC addresses of a forwarded frame change. In a tunnel
//     (tunnel.h) the packet follows an outer header, itself unchanged.
//
//  3. One packet sees one generation of the configuration.
//
//  4. No locks, no hash maps, no clock beyond jiffies: arrays with computed
//     indices and atomic words only.
//
//  5. The kernel's verifier follows less than 100,000 instructions of it. What
//     is apart (IPv6, tags, fragments, ICMP errors, storing a flow) is a
//     function of its own that is not static, which the verifier sees once.
//
//  6. A datagram that has a flow goes by it. One that has none, of a service
//     with server IDs, goes to the server that its QUIC connection ID names
//     (quic.h); every other one to the server whose turn it is.
//
//  7. The lease is over before the sockets of a daemon that died are closed
//     (lease.h).
//
// observe.c is the same program for when somebody looks at single packets
// (systole_observe): a decision that is to be seen calls one of the macros of
// observe.h, which are nothing in the program itself.
//
// It needs Linux 5.14 or newer (BPF syscall programs; atomics need 5.12) and
// a little-endian machine; observing needs 5.18.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bpf -type layout -type role -type flow_state -type reason -type via -type port -type device -type far -type port_counters -type tunnel_kind -type tunnel -type service -type service_flags -type lease_args -type generation -type counters -type early_record Director xdp.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bpf -type see_record -type see_lost Observer observe.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu
