package ipvs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"systole/dataplane"
)

// linux is the real kernel, of the network namespace it was opened in.
type linux struct {
	*socket
	conns *os.File // names /proc/net/ip_vs_conn of that namespace
}

// connectionList is the kernel's list of connections, of the thread's namespace.
const connectionList = "/proc/thread-self/net/ip_vs_conn"

// openKernel finds out first whether there is an IPVS at all. Asking makes the
// kernel load the module if it is installed.
func openKernel() (kernel, error) {
	f, err := netlink.GenlFamilyGet(familyName)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w: this kernel has no IPVS: load it with \"modprobe ip_vs\", or use a kernel built with CONFIG_IP_VS", dataplane.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: asking the kernel for IPVS: %w", dataplane.ErrUnavailable, err)
	}
	s, err := openSocket(f.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: opening a netlink socket: %w", dataplane.ErrUnavailable, err)
	}
	k := &linux{socket: s}
	if _, err := k.services(); err != nil { // a capability that is missing shows here
		k.close()
		return nil, fmt.Errorf("%w: reading the IPVS table (CAP_NET_ADMIN is needed): %w", dataplane.ErrUnavailable, err)
	}
	if k.conns, err = os.OpenFile(connectionList, unix.O_PATH, 0); err != nil {
		k.close()
		return nil, fmt.Errorf("%w: the list of connections: %w", dataplane.ErrUnavailable, err)
	}
	return k, nil
}

func (k *linux) close() {
	k.socket.close()
	if k.conns != nil {
		k.conns.Close()
	}
}

// connections opens the list anew, in the namespace of k whatever the thread's.
func (k *linux) connections() (io.ReadCloser, error) {
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", k.conns.Fd()))
}

func (k *linux) services() ([]Service, error) {
	all, err := k.request(cmdGetService, unix.NLM_F_DUMP)
	if err != nil {
		return nil, err
	}
	out := make([]Service, 0, len(all))
	for _, m := range all {
		s, err := parseService(m)
		if err != nil {
			return nil, err
		}
		if s.Servers, err = k.servers(&s); err != nil {
			return nil, fmt.Errorf("servers of %s: %w", &s, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (k *linux) servers(s *Service) ([]Server, error) {
	all, err := k.request(cmdGetDest, unix.NLM_F_DUMP, serviceName(s))
	if err != nil {
		return nil, err
	}
	out := make([]Server, 0, len(all))
	for _, m := range all {
		d, err := parseServer(m)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (k *linux) do(o op) error {
	var err error
	switch o.verb {
	case addService:
		_, err = k.request(cmdNewService, unix.NLM_F_ACK, serviceAttr(o.service))
	case setService:
		_, err = k.request(cmdSetService, unix.NLM_F_ACK, serviceAttr(o.service))
	case delService:
		_, err = k.request(cmdDelService, unix.NLM_F_ACK, serviceName(o.service))
		return unlessGone(err)
	case addServer:
		_, err = k.request(cmdNewDest, unix.NLM_F_ACK, serviceName(o.service), serverAttr(&o.server))
	case setServer:
		_, err = k.request(cmdSetDest, unix.NLM_F_ACK, serviceName(o.service), serverAttr(&o.server))
	case delServer:
		_, err = k.request(cmdDelDest, unix.NLM_F_ACK, serviceName(o.service), serverName(&o.server))
		return unlessGone(err)
	}
	return explain(err, o)
}

// explain says what the kernel means by an error that has a usual cause.
func explain(err error, o op) error {
	switch {
	case o.verb < addServer && errors.Is(err, unix.ENOENT) && o.service.Engine != "":
		return fmt.Errorf("the kernel has no scheduler %q or no persistence engine %q (modprobe ip_vs_%s, ip_vs_pe_%s): %w",
			o.service.Scheduler, o.service.Engine, o.service.Scheduler, o.service.Engine, err)
	case o.verb < addServer && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: the kernel has no scheduler %q (modprobe ip_vs_%s): %w", dataplane.ErrInvalid, o.service.Scheduler, o.service.Scheduler, err)
	case o.verb < addServer && errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("the kernel's IPVS has no IPv6 (CONFIG_IP_VS_IPV6): %w", err)
	case o.verb >= addServer && errors.Is(err, unix.EINVAL) && family(o.server.Addr.Addr()) != family(o.service.Key.VIP):
		return fmt.Errorf("the kernel takes no server of the other address family while a sync daemon runs: %w", err)
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

func (k *linux) info() (version string, size int, err error) {
	m, err := k.one(cmdGetInfo)
	if err != nil {
		return "", 0, err
	}
	return parseInfo(m)
}

func (k *linux) daemons() ([]Daemon, error) {
	msgs, err := k.request(cmdGetDaemon, unix.NLM_F_DUMP)
	if err != nil {
		return nil, err
	}
	var out []Daemon
	for _, m := range msgs {
		d, err := parseDaemon(m)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (k *linux) startDaemon(d *Daemon) error {
	_, err := k.request(cmdNewDaemon, unix.NLM_F_ACK, daemonAttr(d))
	return err
}

func (k *linux) stopDaemon(r DaemonRole) error {
	_, err := k.request(cmdDelDaemon, unix.NLM_F_ACK, daemonAttr(&Daemon{Role: r}))
	return err
}

func (k *linux) timeouts() (dataplane.Timeouts, error) {
	m, err := k.one(cmdGetConfig)
	if err != nil {
		return dataplane.Timeouts{}, err
	}
	return parseTimeouts(m)
}

func (k *linux) setTimeouts(t dataplane.Timeouts) error {
	_, err := k.request(cmdSetConfig, unix.NLM_F_ACK, timeoutAttrs(t)...)
	return err
}

func (k *linux) zero(s *Service) error {
	_, err := k.request(cmdZero, unix.NLM_F_ACK, serviceName(s))
	return err
}
