package icmp

import (
	"fmt"
	"math"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// filter is the socket filter that passes what Parse understands and the caller
// asked for: replies to the identifier, and refusals of UDP to one of the
// ports. All other machines' pings, which every raw socket would hear, stay in
// the kernel.
//
// It sees what Parse does: an IPv4 packet from its header on (raw_rcv of
// net/ipv4/raw.c), an ICMPv6 message without the header.
func filter(f Family, id uint16, ports []uint16) []bpf.Instruction {
	var prog []bpf.Instruction
	reply, unreachable, code := uint32(v6EchoReply), uint32(v6Unreachable), uint32(v6PortCode)
	if f == V4 {
		reply, unreachable, code = v4EchoReply, v4Unreachable, v4PortCode
		prog = append(prog, bpf.LoadMemShift{Off: 0}) // X: where ICMP begins
	} else {
		prog = append(prog, bpf.LoadConstant{Dst: bpf.RegX, Val: 0})
	}
	drop, pass := bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: math.MaxUint32}
	prog = append(prog,
		bpf.LoadIndirect{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: reply, SkipTrue: 4},
		bpf.LoadIndirect{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(id), SkipTrue: 1},
		pass,
		drop,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unreachable, SkipTrue: 1},
		drop,
		bpf.LoadIndirect{Off: 1, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: code, SkipTrue: 1},
		drop,
	)
	if f == V4 {
		prog = append(prog,
			bpf.LoadIndirect{Off: headerLen + 9, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: udpProto, SkipTrue: 1},
			drop,
			// X: where the quoted UDP header would begin if the ICMP header had
			// no length.
			bpf.LoadIndirect{Off: headerLen, Size: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf},
			bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2},
			bpf.ALUOpX{Op: bpf.ALUOpAdd},
			bpf.TAX{},
			bpf.LoadIndirect{Off: headerLen + 2, Size: 2},
		)
	} else {
		prog = append(prog,
			bpf.LoadAbsolute{Off: headerLen + 6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: udpProto, SkipTrue: 1},
			drop,
			bpf.LoadAbsolute{Off: headerLen + 40 + 2, Size: 2},
		)
	}
	for _, port := range ports {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port), SkipTrue: 1}, pass)
	}
	return append(prog, drop)
}

// attach gives a socket its filters. The first goes by the type alone; with it
// the kernel does not even copy the rest (icmp(7), RFC 3542 section 3.2).
func attach(fd int, f Family, id uint16, ports []uint16) error {
	var err error
	if f == V4 {
		pass := uint32(1)<<v4EchoReply | 1<<v4Unreachable
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, unix.ICMP_FILTER, int(^pass))
	} else {
		var block unix.ICMPv6Filter
		for i := range block.Data {
			block.Data[i] = math.MaxUint32
		}
		for _, typ := range []int{v6EchoReply, v6Unreachable} {
			block.Data[typ/32] &^= 1 << (typ % 32)
		}
		err = unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &block)
	}
	if err != nil {
		return fmt.Errorf("set the filter of ICMP types: %w", err)
	}
	raw, err := bpf.Assemble(filter(f, id, ports))
	if err != nil {
		return fmt.Errorf("assemble the socket filter: %w", err)
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return fmt.Errorf("attach the socket filter: %w", err)
	}
	return nil
}
