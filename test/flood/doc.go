// Package flood sends frames through a director at full rate and counts each
// of them when it comes back: for benchmarks, and for tests of what may not be
// lost.
//
//	wire, err := flood.New(runtime.NumCPU())
//	defer wire.Close()
//	wire.Do(func() error { plane, err = xdp.Open(... wire.Director ...) })
//	s, err := wire.Stream(flood.Traffic{Frame: f, Clients: 10_000})
//	s.Send(1_000_000)
//	wire.Tally() // what came back, and where to
//
// The wire is a pair of veth devices in a network namespace without a name. The
// generator is a BPF program that the kernel runs with frames of its own
// (BPF_F_TEST_XDP_LIVE_FRAMES): it writes the whole frame and sends it out of
// one end; the director's program gets it at the other, in the driver, and
// sends it back, where a second program counts it by the server it was sent to
// and drops it. No socket, no queue of a socket buffer and no scheduler lies
// between, so two to three million packets a second take this way on one CPU,
// and the system call returns after the last of them was counted.
//
// # Promises
//
//  1. What was sent, less what came back and what the wire itself lost (Balance),
//     was not forwarded. The wire loses nothing as long as nobody else sends:
//     frames are sent in batches that fit into the ring of a veth, and the CPU
//     that sent a batch has it read before it makes the next. One frame of
//     another CPU, such as the kernel's own of IPv6, gives the reading to that
//     CPU for as long as the ring does not run empty; so the wire has no IPv6.
//  2. Nothing stays when the process ends, however it ends.
//
// It needs root and Linux 5.18.
package flood

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package flood -type tally Flood flood.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu
