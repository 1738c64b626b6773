package xdp

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// generator is a program in front of another that makes each repetition of
// BPF_PROG_TEST_RUN a client of its own: it counts the client's address, IPv4 at
// byte 26, and puts back the MAC addresses, which a director changes.
func generator(t testing.TB, frame []byte, next *ebpf.Program) *ebpf.Program {
	t.Helper()
	newMap := func(kind ebpf.MapType, value uint32) *ebpf.Map {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: kind, KeySize: 4, ValueSize: value, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	programs, turn := newMap(ebpf.ProgramArray, 4), newMap(ebpf.Array, 8)
	word := func(at int) int32 {
		return int32(uint32(frame[at]) | uint32(frame[at+1])<<8 | uint32(frame[at+2])<<16 | uint32(frame[at+3])<<24)
	}
	const client = 26
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.R10, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, turn.FD()),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R3, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R3, 1),
		asm.StoreMem(asm.R0, 0, asm.R3, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, 0, asm.Word), // data
		asm.LoadMem(asm.R2, asm.R6, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R1),
		asm.Add.Imm(asm.R4, client+4),
		asm.JGT.Reg(asm.R4, asm.R2, "out"),
		asm.StoreMem(asm.R1, client, asm.R3, asm.Word),
	}
	for at := 0; at < 12; at += 4 {
		ins = append(ins, asm.StoreImm(asm.R1, int16(at), int64(word(at)), asm.Word))
	}
	ins = append(ins,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, programs.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), // XDP_ABORTED
		asm.Return(),
	)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, Instructions: ins, License: "MIT"})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { prog.Close() })
	if err := programs.Put(uint32(0), next); err != nil {
		t.Fatal(err)
	}
	return prog
}
