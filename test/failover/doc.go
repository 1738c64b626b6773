// Package failover measures, side by side in one lab, what a client loses when
// a director of a pair fails or hands over: Systole, keepalived and the real
// heartbeat, each on the same switch, asked by the same probe.
//
// keepalived and heartbeat have no data plane here, their nodes answer the probe
// themselves: so one that was killed is still answered for by its kernel, and
// after a kill -9 their garp says more than their gap.
//
// `make failover` runs it: each benchmark is an event, its metrics are the
// median and the worst of the runs (RUNS=10). The tests of the package are soaks:
// short in `make test`, as long as -soak says under `make soak`.
package failover
