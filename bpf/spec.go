package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Director is LoadDirector, ready for the kernel.
func Director() (*ebpf.CollectionSpec, error) { return ready(LoadDirector()) }

// Observer is LoadObserver, ready for the kernel.
func Observer() (*ebpf.CollectionSpec, error) { return ready(LoadObserver()) }

// ready replaces what the C of get_state (maps.h) can only write as the handle
// of the map by the address of its one element, as the kernel has it for global
// variables: one instruction instead of the dozen of a look-up.
func ready(spec *ebpf.CollectionSpec, err error) (*ebpf.CollectionSpec, error) {
	if err != nil {
		return nil, err
	}
	for _, prog := range spec.Programs {
		for i := range prog.Instructions {
			if ins := &prog.Instructions[i]; ins.IsLoadFromMap() && ins.Reference() == DirectorMapState {
				ins.Src = asm.PseudoMapValue
			}
		}
	}
	return spec, nil
}
