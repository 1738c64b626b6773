package bpf_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"systole/bpf"
	"systole/test/need"
)

// TestStack adds up the stacks of functions that call each other as Linux 6.1
// does: each in multiples of 32 bytes, one at least. With the JIT newer kernels
// take multiples of 16, and so load what 6.1 refuses (check_max_stack_depth in
// kernel/bpf/verifier.c).
func TestStack(t *testing.T) {
	need.Root(t, "BPF programs")
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"director": bpf.Director, "observer": bpf.Observer,
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := load()
			if err != nil {
				t.Fatal(err)
			}
			// All that is not asked for is no part of the observing program.
			for variable, value := range map[string]any{
				bpf.ObserverVarSeeFilter: bpf.ObserverCriteria{ClientFamily: 4, VipFamily: 6, Protocol: 6, Server: 1, Verdicts: ^uint32(0)},
				bpf.ObserverVarSeeSnap:   uint32(64), bpf.ObserverVarSeeIn: uint8(1), bpf.ObserverVarSeeOut: uint8(1),
			} {
				if v := spec.Variables[variable]; v != nil {
					if err := v.Set(value); err != nil {
						t.Fatal(err)
					}
				}
			}
			checkStack(t, spec)
		})
	}
}

func checkStack(t *testing.T, spec *ebpf.CollectionSpec) {
	t.Helper()
	const most = 512
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, prog := range c.Programs {
		// The kernel names the stacks in the order of the functions.
		var functions []string
		calls := map[string][]string{}
		for i := range spec.Programs[name].Instructions {
			ins := &spec.Programs[name].Instructions[i]
			if ins.Symbol() != "" {
				functions = append(functions, ins.Symbol())
			}
			if ins.IsFunctionCall() {
				by := functions[len(functions)-1]
				calls[by] = append(calls[by], ins.Reference())
			}
		}
		stacks, err := stackDepths(prog.VerifierLog)
		if err != nil || len(stacks) != len(functions) {
			t.Fatalf("%s: stacks %v of %v, %v", name, stacks, functions, err)
		}
		var deepest func(function string) (int, string)
		deepest = func(function string) (int, string) {
			own := stacks[slices.Index(functions, function)]
			below, chain := 0, ""
			for _, called := range calls[function] {
				if n, s := deepest(called); n > below {
					below, chain = n, " > "+s
				}
			}
			return (max(own, 1)+31)/32*32 + below, fmt.Sprintf("%s %d%s", function, own, chain)
		}
		n, chain := deepest(functions[0])
		if n > most {
			t.Errorf("Linux 6.1 refuses %s: its functions need %d bytes of stack, %d are allowed: %s", name, n, most, chain)
		}
		t.Logf("%s: %d bytes of stack: %s", name, n, chain)
	}
}

// stackDepths reads "stack depth 208+8+96" of a verifier's log.
func stackDepths(log string) (depths []int, err error) {
	for line := range strings.Lines(log) {
		list, ok := strings.CutPrefix(strings.TrimSpace(line), "stack depth ")
		if !ok {
			continue
		}
		for _, s := range strings.Split(list, "+") {
			n, err := strconv.Atoi(s)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			depths = append(depths, n)
		}
	}
	return depths, nil
}
