package fallback

import (
	"fmt"

	"systole/dataplane"
)

// Choice is what an operator wants of the two planes.
type Choice uint8

// The choices.
const (
	Auto Choice = iota // XDP carries what it can, IPVS the rest, and all if XDP is down
	XDP                // the same, and IPVS has nothing that XDP can carry
	IPVS               // IPVS carries what it can, XDP the rest
)

var choices = [...]string{"auto", "xdp", "ipvs"}

// String is the choice's word: "auto", "xdp", "ipvs".
func (c Choice) String() string { return choices[c] }

// ParseChoice reads what String writes.
func ParseChoice(s string) (Choice, error) {
	for i, name := range choices {
		if s == name {
			return Choice(i), nil
		}
	}
	return Auto, fmt.Errorf("plane %q: want auto, xdp or ipvs", s)
}

// Candidate is a plane as a decision needs to know it.
type Candidate struct {
	Name    string
	Carries func(dataplane.Service) error // nil, or why it never can
	Absent  string                        // why this machine has no such plane; "" if it has
	Down    string                        // why it cannot forward at present; "" if it can
}

// never is why the plane cannot carry svc on this machine, however long we wait.
func (c *Candidate) never(svc dataplane.Service) string {
	if err := c.Carries(svc); err != nil {
		return err.Error()
	}
	return c.Absent
}

// Carriage says which plane has the packets of a service, and why.
type Carriage struct {
	Service dataplane.ServiceKey
	Plane   string // "": none at present
	Why     string // why not the plane that is preferred, or none; "" if it is
	// Holds tells for XDP and IPVS whether the service is in their tables.
	Holds [2]bool
}

// Decide says for each service which plane carries it. The error names all
// services that neither plane can carry and wraps dataplane.ErrInvalid.
func Decide(services []dataplane.Service, xdp, ipvs Candidate, choice Choice) ([]Carriage, error) {
	out := make([]Carriage, len(services))
	var hopeless []dataplane.Service
	for i, svc := range services {
		c := Carriage{Service: svc.ServiceKey}
		noXDP, noIPVS := xdp.never(svc), ipvs.never(svc)
		switch {
		case noXDP != "" && noIPVS != "":
			hopeless = append(hopeless, svc)
		case noXDP != "":
			c.by(1, ipvs, noXDP)
		case noIPVS != "" && (choice == IPVS || xdp.Down != ""):
			c.by(0, xdp, ipvs.Name+": "+noIPVS)
		case noIPVS != "":
			c.by(0, xdp, "")
		case choice == IPVS:
			c.by(1, ipvs, "chosen by the operator")
		case choice == XDP:
			c.by(0, xdp, "")
		case xdp.Down != "" && ipvs.Down == "":
			c.by(1, ipvs, xdp.Down)
			c.Holds[0] = true // for when it is back
		default:
			c.by(0, xdp, "")
			c.Holds[1] = true
		}
		if svc.ServerIDLength != 0 && c.Plane == ipvs.Name {
			c.Why += "; " + byAddress
		}
		out[i] = c
	}
	if len(hopeless) > 0 {
		return nil, uncarried(hopeless, xdp, ipvs)
	}
	return out, nil
}

// byAddress is what a service with server IDs lacks in IPVS, which carries it
// all the same.
const byAddress = "a QUIC connection stays on its server only while its client's address does, ipvs does not look at its ID"

// by gives the service to a plane, if that can forward at present.
func (c *Carriage) by(i int, p Candidate, why string) {
	c.Plane, c.Why, c.Holds[i] = p.Name, why, true
	if p.Down == "" {
		return
	}
	c.Plane = ""
	c.Why = p.Name + ": " + p.Down
	if why != "" {
		c.Why += "; " + why
	}
}

// uncarried is the error about services that neither plane can carry.
func uncarried(services []dataplane.Service, xdp, ipvs Candidate) error {
	text := ""
	for i, svc := range services {
		if i > 0 {
			text += "; "
		}
		text += fmt.Sprintf("service %s: no plane can carry it: %s: %s, and %s: %s",
			svc.ServiceKey, xdp.Name, xdp.never(svc), ipvs.Name, ipvs.never(svc))
	}
	return fmt.Errorf("%w: %s", dataplane.ErrInvalid, text)
}
