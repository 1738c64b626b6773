package control

import (
	"net/netip"
	"regexp"

	"systole/control/config"
	"systole/control/health"
	"systole/dataplane"
)

// healthCheck turns a configured check into one that can be run.
func healthCheck(addr netip.Addr, port uint16, c config.Check) health.Check {
	out := health.Check{
		Type: c.Type, Addr: addr, Port: c.Port,
		Interval: c.Interval, Timeout: c.Timeout, Rise: c.Rise, Fall: c.Fall,
		Path: c.Path, VirtualHost: c.VirtualHost, Method: c.Method,
	}
	if out.Port == 0 {
		out.Port = port
	}
	if c.Expect != "" {
		out.Expect = regexp.MustCompile(c.Expect) // config has compiled it once
	}
	return out
}

// checkTargets are the health checks of a config.
func checkTargets(c *config.Config) map[health.ID]health.Check {
	out := make(map[health.ID]health.Check)
	for i := range c.Services {
		s := &c.Services[i]
		for _, srv := range s.Servers {
			ck := s.Check
			if srv.Check != nil {
				ck = *srv.Check
			}
			out[health.ID{Service: serviceKey(s).String(), Server: srv.Addr}] = healthCheck(srv.Addr, s.Port, ck)
		}
	}
	return out
}

// serverKey finds the real server that a check is about.
func serverKey(c *config.Config, id health.ID) (dataplane.ServerKey, bool) {
	for i := range c.Services {
		if key := serviceKey(&c.Services[i]); key.String() == id.Service {
			for _, s := range c.Services[i].Servers {
				if s.Addr == id.Server {
					return dataplane.ServerKey{Service: key, Server: id.Server}, true
				}
			}
		}
	}
	return dataplane.ServerKey{}, false
}
