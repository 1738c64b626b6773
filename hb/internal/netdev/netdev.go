// Package netdev asks the kernel about a network interface, and ties sockets to
// one.
//
// It asks in the network namespace of a socket, whatever namespace the calling
// thread is in.
package netdev

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ValidName reports whether the kernel takes name for an interface, which need
// not exist.
func ValidName(name string) bool { return len(name) > 0 && len(name) < unix.IFNAMSIZ }

// Ask asks the kernel something about an interface by an ioctl request of
// netdevice(7).
func Ask(fd int, device string, request uint) (*unix.Ifreq, error) {
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", device, err)
	}
	if err := unix.IoctlIfreq(fd, request, ifr); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return nil, fmt.Errorf("interface %s does not exist: %w", device, err)
		}
		return nil, fmt.Errorf("interface %s: %w", device, err)
	}
	return ifr, nil
}

// Index is the interface's number. One that is removed and made again has
// another.
func Index(fd int, device string) (uint32, error) {
	ifr, err := Ask(fd, device, unix.SIOCGIFINDEX)
	if err != nil {
		return 0, err
	}
	return ifr.Uint32(), nil
}

// HasCarrier tells whether the interface is up and has a carrier.
func HasCarrier(fd int, device string) (bool, error) {
	ifr, err := Ask(fd, device, unix.SIOCGIFFLAGS)
	if err != nil {
		return false, err
	}
	return ifr.Uint16()&unix.IFF_RUNNING != 0, nil
}

// Bind ties a socket to an interface (SO_BINDTODEVICE): it sends and receives
// there only. It stays tied to that one when another gets the name.
func Bind(fd int, device string) error {
	if err := unix.BindToDevice(fd, device); err != nil {
		return fmt.Errorf("bind to interface %s: %w", device, err)
	}
	return nil
}

// Set sets an option of a socket, whose name is for the error.
func Set(fd, level, option int, name string, value int) error {
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}
