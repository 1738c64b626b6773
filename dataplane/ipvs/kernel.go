package ipvs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/moby/ipvs"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/dataplane"
)

// linux is the real kernel: commands and table by moby/ipvs, what that lacks
// (64-bit counters, version) by genl.
type linux struct {
	handle *ipvs.Handle
	family uint16
}

// openKernel finds out first whether there is an IPVS at all: the library does
// not say so, its table is then simply empty. Asking makes the kernel load the
// module if it is installed.
func openKernel() (kernel, error) {
	f, err := netlink.GenlFamilyGet("IPVS")
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w: this kernel has no IPVS: load it with \"modprobe ip_vs\", or use a kernel built with CONFIG_IP_VS", dataplane.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: asking the kernel for IPVS: %w", dataplane.ErrUnavailable, err)
	}
	// The library runs modprobe and complains to logrus's global logger where
	// there is none, as in a container. IPVS is there, so that says nothing.
	level := logrus.GetLevel()
	logrus.SetLevel(logrus.PanicLevel)
	h, err := ipvs.New("")
	logrus.SetLevel(level)
	if err != nil {
		return nil, fmt.Errorf("%w: opening IPVS (CAP_NET_ADMIN is needed): %w", dataplane.ErrUnavailable, err)
	}
	k := &linux{h, f.ID}
	if _, err := k.services(); err != nil { // a capability that is missing shows here
		h.Close()
		return nil, fmt.Errorf("%w: reading the IPVS table (CAP_NET_ADMIN is needed): %w", dataplane.ErrUnavailable, err)
	}
	return k, nil
}

func (k *linux) close() { k.handle.Close() }

func (k *linux) services() ([]Service, error) {
	all, err := k.handle.GetServices()
	if err != nil {
		return nil, err
	}
	out := make([]Service, 0, len(all))
	for _, s := range all {
		svc, err := serviceFrom(s)
		if err != nil {
			return nil, err
		}
		dests, err := k.handle.GetDestinations(s)
		if err != nil {
			return nil, fmt.Errorf("servers of %s: %w", &svc, err)
		}
		for _, d := range dests {
			srv, err := serverFrom(d)
			if err != nil {
				return nil, fmt.Errorf("servers of %s: %w", &svc, err)
			}
			svc.Servers = append(svc.Servers, srv)
		}
		out = append(out, svc)
	}
	return out, nil
}

func (k *linux) do(o op) error {
	s, d := serviceTo(o.service), serverTo(o.server)
	switch o.verb {
	case addService:
		return explain(k.handle.NewService(s), o)
	case setService:
		return explain(k.handle.UpdateService(s), o)
	case delService:
		return unlessGone(k.handle.DelService(s))
	case addServer:
		return explain(k.handle.NewDestination(s, d), o)
	case setServer:
		return explain(k.handle.UpdateDestination(s, d), o)
	case delServer:
		return unlessGone(k.handle.DelDestination(s, d))
	}
	return fmt.Errorf("no such command: %d", o.verb)
}

// explain says what the kernel means by an error that has a usual cause.
func explain(err error, o op) error {
	switch {
	case o.verb < addServer && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("the kernel has no scheduler %q (modprobe ip_vs_%s): %w", o.service.Scheduler, o.service.Scheduler, err)
	case o.verb == addServer && errors.Is(err, unix.EINVAL):
		return fmt.Errorf("the kernel does not take this for the address of a host (is the network configured?): %w", err)
	}
	return err
}

// unlessGone forgives the removal of what somebody else removed meanwhile
// (the kernel says ESRCH of a service, ENOENT of a server).
func unlessGone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func serviceFrom(s *ipvs.Service) (Service, error) {
	out := Service{
		FWMark: s.FWMark, Scheduler: s.SchedName, Flags: Flags(s.Flags), Timeout: s.Timeout, Netmask: s.Netmask,
	}
	switch {
	case s.FWMark == 0:
		ip, ok := netip.AddrFromSlice(s.Address)
		if !ok {
			return out, fmt.Errorf("a service with the address %v", s.Address)
		}
		out.Key = dataplane.ServiceKey{VIP: ip, Port: s.Port, Protocol: dataplane.Protocol(s.Protocol)}
	case s.AddressFamily == syscall.AF_INET6:
		out.Key.VIP = netip.IPv6Unspecified()
	default:
		out.Key.VIP = netip.IPv4Unspecified()
	}
	return out, nil
}

func serviceTo(s *Service) *ipvs.Service {
	out := &ipvs.Service{
		AddressFamily: family(s.Key.VIP), FWMark: s.FWMark,
		SchedName: s.Scheduler, Flags: uint32(s.Flags &^ hashed), Timeout: s.Timeout, Netmask: s.Netmask,
	}
	if s.FWMark == 0 {
		out.Address, out.Port, out.Protocol = net.IP(s.Key.VIP.AsSlice()), s.Key.Port, uint16(s.Key.Protocol)
	}
	return out
}

func serverFrom(d *ipvs.Destination) (Server, error) {
	ip, ok := netip.AddrFromSlice(d.Address)
	if !ok {
		return Server{}, fmt.Errorf("a server with the address %v", d.Address)
	}
	return Server{
		Addr:    netip.AddrPortFrom(ip, d.Port),
		Forward: Forward(d.ConnectionFlags & ipvs.ConnFwdMask),
		Weight:  uint32(d.Weight),
		Upper:   d.UpperThreshold, Lower: d.LowerThreshold,
		Active: uint32(d.ActiveConnections), Inactive: uint32(d.InactiveConnections),
	}, nil
}

func serverTo(s Server) *ipvs.Destination {
	return &ipvs.Destination{
		Address: net.IP(s.Addr.Addr().AsSlice()), Port: s.Addr.Port(), AddressFamily: family(s.Addr.Addr()),
		Weight: int(s.Weight), ConnectionFlags: uint32(s.Forward),
		UpperThreshold: s.Upper, LowerThreshold: s.Lower,
	}
}

func family(a netip.Addr) uint16 {
	if a.Is6() {
		return syscall.AF_INET6
	}
	return syscall.AF_INET
}
