package xdp

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"systole/bpf"
)

// kernelSide is what one plane has in the kernel, and our views of it.
type kernelSide struct {
	objects bpf.DirectorObjects
	aging   aging
	jiffy   time.Duration
	lease   *leaseCall
	// constants are the values of the program's, by name, for its twin that is
	// observed.
	constants map[string][]byte

	state        mapping[bpf.DirectorState]
	flows        mapping[bpf.DirectorBucket]
	flows6       mapping[bpf.DirectorBucket6]
	fragments    mapping[bpf.DirectorBucket6]
	quic         mapping[bpf.DirectorQuicIds]
	turns        mapping[bpf.DirectorTurn]
	loads        mapping[bpf.DirectorLoads]
	serviceNames mapping[bpf.DirectorServiceName]
	serverNames  mapping[bpf.DirectorServerName]

	tables [2]table // flows and flows6 once more, by their words
}

// limits are the constants of limit.h for a rate of new flows per second; a
// bucket holds a second's worth.
func limits(rate int, jiffy time.Duration) map[string]uint64 {
	if rate < 0 {
		return nil
	}
	const token = 1 << 16
	return map[string]uint64{
		bpf.DirectorVarLimitRate:   max(uint64(rate)*token/uint64(time.Second/jiffy), 1),
		bpf.DirectorVarLimitDepth:  max(uint64(rate), 1) * token,
		bpf.DirectorVarLimitMemory: uint64(timeoutSYN / jiffy),
	}
}

// loadSpec is the compiled program with what the configuration says of it.
func loadSpec(cfg Config) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.Director()
	if err != nil {
		return nil, err
	}
	spec.Maps[bpf.DirectorMapFlows].MaxEntries = uint32(cfg.Flows / ways)
	spec.Maps[bpf.DirectorMapFlows6].MaxEntries = uint32(cfg.Flows6 / ways)
	jiffy, err := jiffyLength()
	if err != nil {
		return nil, err
	}
	for name, value := range limits(cfg.NewFlows, jiffy) {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("constant %s: %w", name, err)
		}
	}
	return spec, nil
}

// load puts program and maps into the kernel, using the maps in adopted (by
// name) instead of new ones. The caller closes those it passed.
func load(spec *ebpf.CollectionSpec, adopted map[string]*ebpf.Map) (*kernelSide, error) {
	k := &kernelSide{}
	var err error
	if k.jiffy, err = jiffyLength(); err != nil {
		return nil, err
	}
	k.aging = newAging(k.jiffy)

	// The seed goes with the flow table. Both are adopted or neither is.
	var seed [2]uint64
	replacements := maps.Clone(adopted)
	state := adopted[bpf.DirectorMapState]
	if state == nil {
		if state, err = ebpf.NewMap(spec.Maps[bpf.DirectorMapState]); err != nil {
			return nil, refine(err)
		}
		defer state.Close() // the collection has its own reference
		if replacements == nil {
			replacements = map[string]*ebpf.Map{}
		}
		replacements[bpf.DirectorMapState] = state
		var random [16]byte
		rand.Read(random[:])
		seed[0] = binary.NativeEndian.Uint64(random[:])
		seed[1] = binary.NativeEndian.Uint64(random[8:]) | 1
	}
	view, err := mapArray[bpf.DirectorState](state)
	if err != nil {
		return nil, err
	}
	if adopted[bpf.DirectorMapState] == nil {
		view.elements[0].Seed = seed
	}
	seed = view.elements[0].Seed
	if err := view.unmap(); err != nil {
		return nil, err
	}

	for name, value := range map[string]any{
		bpf.DirectorVarBucketMask:  spec.Maps[bpf.DirectorMapFlows].MaxEntries - 1,
		bpf.DirectorVarBucket6Mask: spec.Maps[bpf.DirectorMapFlows6].MaxEntries - 1,
		bpf.DirectorVarFlow6Seed:   flow6Seed(seed),
		bpf.DirectorVarFlowSeed0:   seed[0],
		bpf.DirectorVarFlowSeed1:   seed[1],
		bpf.DirectorVarAgeShift:    k.aging.shift,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("constant %s: %w", name, err)
		}
	}
	if err := setDaemon(spec); err != nil {
		return nil, err
	}
	k.constants = make(map[string][]byte)
	for name, v := range spec.Variables {
		if v.Constant() {
			k.constants[name] = slices.Clone(v.Value)
		}
	}
	opts := &ebpf.CollectionOptions{MapReplacements: replacements}
	if err := spec.LoadAndAssign(&k.objects, opts); err != nil {
		return nil, refine(err)
	}
	if err := k.mapAll(); err != nil {
		return nil, errors.Join(err, k.close())
	}
	k.tables = k.newTables()
	k.lease = newLeaseCall(k.objects.SystoleLease)
	return k, nil
}

// flow6Seed are the secret multipliers of the longer keys. They follow from
// the words that are kept with the flow table.
func flow6Seed(seed [2]uint64) (s [5]uint64) {
	for i := range s {
		s[i] = splitmix(splitmix(seed[0]+uint64(i))^seed[1]) | 1
	}
	return s
}

// refine says what to do about the common reasons why a program is refused.
func refine(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		return fmt.Errorf("the kernel refuses the program (Linux 5.14 or newer is needed): %w", err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("this kernel lacks a BPF feature (Linux 5.14 or newer is needed): %w", err)
	}
	return fmt.Errorf("load BPF program and maps (root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, is needed): %w", err)
}

func (k *kernelSide) mapAll() error {
	var errs [9]error
	k.state, errs[0] = mapArray[bpf.DirectorState](k.objects.State)
	k.flows, errs[1] = mapArray[bpf.DirectorBucket](k.objects.Flows)
	k.turns, errs[2] = mapArray[bpf.DirectorTurn](k.objects.Turns)
	k.serviceNames, errs[3] = mapArray[bpf.DirectorServiceName](k.objects.ServiceNames)
	k.serverNames, errs[4] = mapArray[bpf.DirectorServerName](k.objects.ServerNames)
	k.flows6, errs[5] = mapArray[bpf.DirectorBucket6](k.objects.Flows6)
	k.fragments, errs[6] = mapArray[bpf.DirectorBucket6](k.objects.Fragments)
	k.quic, errs[7] = mapArray[bpf.DirectorQuicIds](k.objects.QuicIds)
	k.loads, errs[8] = mapArray[bpf.DirectorLoads](k.objects.Loads)
	return errors.Join(errs[:]...)
}

// close gives everything back that is not pinned or attached.
func (k *kernelSide) close() error {
	if k.lease != nil {
		k.lease.release()
	}
	return errors.Join(
		k.state.unmap(), k.flows.unmap(), k.flows6.unmap(), k.fragments.unmap(), k.turns.unmap(),
		k.quic.unmap(), k.loads.unmap(), k.serviceNames.unmap(), k.serverNames.unmap(),
		k.objects.Close(),
	)
}

// pinned are the maps that outlive the daemon, by name.
func (k *kernelSide) pinned() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		bpf.DirectorMapState:        k.objects.State,
		bpf.DirectorMapFlows:        k.objects.Flows,
		bpf.DirectorMapFlows6:       k.objects.Flows6,
		bpf.DirectorMapFragments:    k.objects.Fragments,
		bpf.DirectorMapTurns:        k.objects.Turns,
		bpf.DirectorMapQuicIds:      k.objects.QuicIds,
		bpf.DirectorMapBudgets:      k.objects.Budgets,
		bpf.DirectorMapServerStats:  k.objects.ServerStats,
		bpf.DirectorMapReasonStats:  k.objects.ReasonStats,
		bpf.DirectorMapPortStats:    k.objects.PortStats,
		bpf.DirectorMapServiceNames: k.objects.ServiceNames,
		bpf.DirectorMapServerNames:  k.objects.ServerNames,
	}
}

// shared are the maps that the observed twin has in common with the program: all
// that hold something from one packet to the next.
func (k *kernelSide) shared() map[string]*ebpf.Map {
	m := k.pinned()
	m[bpf.DirectorMapEarly] = k.objects.Early                 // its buffers are the daemon's
	m[bpf.DirectorMapEgressDevices] = k.objects.EgressDevices // which each daemon finds anew
	m[bpf.DirectorMapLoads] = k.objects.Loads                 // which follow from the flow table
	return m
}

// pinnedNames are the names of those that are pinned, in a fixed order.
func pinnedNames() []string {
	return slices.Sorted(maps.Keys((&kernelSide{}).pinned()))
}
