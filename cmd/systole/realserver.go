package main

import (
	"fmt"
	"net/netip"
	"os"

	"systole/control/realserver"
)

type realServerCmd struct {
	Setup realServerSetupCmd `cmd:"" help:"Put the VIP on lo and keep this machine from answering ARP for it."`
	Check realServerCheckCmd `cmd:"" help:"Say item by item whether this machine is ready; exit 1 if not."`
}

type realServerSetupCmd struct {
	VIP netip.Addr `arg:"" help:"The virtual address."`
}

func (c realServerSetupCmd) Run() error {
	if _, err := realserver.Setup(c.VIP, realserver.Loopback); err != nil {
		return err
	}
	if err := printItems(c.VIP); err != nil {
		return err
	}
	fmt.Print("\nUntil the next reboot. To keep it:\n\n", realserver.Persist(c.VIP))
	return nil
}

type realServerCheckCmd struct {
	VIP netip.Addr `arg:"" help:"The virtual address."`
}

func (c realServerCheckCmd) Run() error { return printItems(c.VIP) }

// printItems is exit 1 if anything is wrong.
func printItems(vip netip.Addr) error {
	items, err := realserver.Check(vip)
	if err != nil {
		return err
	}
	var code exitCode
	for _, i := range items {
		fmt.Fprintln(os.Stdout, i)
		if !i.OK {
			code = 1
		}
	}
	if code != 0 {
		return code
	}
	return nil
}
