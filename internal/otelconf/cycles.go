package otelconf

import (
	"slices"
	"strings"
)

// graph is how pipelines feed each other: nodes are pipelines and the connectors
// between them, so that its size is that of the config.
type graph struct {
	nodes []vertex
	at    map[string]int // of connectors
}

type vertex struct {
	name string
	at   *value // nil for a connector
	// sure is false for a connector that might not serve some of the pairs of
	// signals around it, which only an agent's build knows.
	sure bool
	to   []int
}

// newGraph ties pipelines to connectors. Of a connector with a single signal on
// one side all pairs are sure: the Collector would refuse the config otherwise.
// One that is known to hand on the signal it takes is a vertex for each signal.
func newGraph(wires []wire) *graph {
	g := &graph{at: map[string]int{}}
	for _, w := range wires {
		g.nodes = append(g.nodes, vertex{name: w.id, at: w.at, sure: true})
	}
	signals := map[string]map[string]bool{} // by end and connector
	for i, w := range wires {
		for _, r := range w.out {
			j := g.connector(r.id, w.signal)
			g.nodes[i].to = append(g.nodes[i].to, j)
			note(signals, "out "+r.id, w.signal)
		}
		for _, r := range w.in {
			j := g.connector(r.id, w.signal)
			g.nodes[j].to = append(g.nodes[j].to, i)
			note(signals, "in "+r.id, w.signal)
		}
	}
	for j := len(wires); j < len(g.nodes); j++ {
		v := &g.nodes[j]
		v.sure = sameSignalOnly(v.name) || len(signals["in "+v.name]) == 1 || len(signals["out "+v.name]) == 1
	}
	return g
}

func note(m map[string]map[string]bool, key, signal string) {
	if m[key] == nil {
		m[key] = map[string]bool{}
	}
	m[key][signal] = true
}

func (g *graph) connector(id, signal string) int {
	key := id
	if sameSignalOnly(id) {
		key += " " + signal
	}
	j, ok := g.at[key]
	if !ok {
		j = len(g.nodes)
		g.nodes = append(g.nodes, vertex{name: id})
		g.at[key] = j
	}
	return j
}

// sameSignalOnly reports whether the connector is known to hand on the signal it
// takes and no other.
func sameSignalOnly(id string) bool {
	kind, _, _ := strings.Cut(id, "/")
	switch kind {
	case "forward", "routing", "failover", "roundrobin":
		return true
	}
	return false
}

// cycles reports ways in which pipelines feed themselves: errors over sure steps,
// then warnings over all steps for pipelines that no error names.
func (c *checker) cycles(wires []wire) {
	g := newGraph(wires)
	reported := make([]bool, len(g.nodes))
	for _, severity := range []Severity{Error, Warning} {
		w := cycleWalk{c: c, g: g, severity: severity, reported: reported, state: make([]uint8, len(g.nodes))}
		for i := range wires {
			w.visit(i)
		}
	}
}

// cycleWalk is one walk, depth first.
type cycleWalk struct {
	c        *checker
	g        *graph
	severity Severity
	reported []bool
	state    []uint8 // 0 not seen, 1 on the path, 2 done
	path     []int
}

func (w *cycleWalk) visit(i int) {
	v := &w.g.nodes[i]
	if w.state[i] != 0 || w.severity == Error && !v.sure || w.severity == Warning && w.reported[i] {
		return
	}
	w.state[i] = 1
	w.path = append(w.path, i)
	for _, next := range v.to {
		if w.state[next] == 1 {
			w.found(next)
			continue
		}
		w.visit(next)
	}
	w.path = w.path[:len(w.path)-1]
	w.state[i] = 2
}

// found reports the end of the path that starts at vertex i, beginning at a
// pipeline, unless one of its pipelines is already in a report.
func (w *cycleWalk) found(i int) {
	loop := slices.Clone(w.path[slices.Index(w.path, i):])
	if w.g.nodes[loop[0]].at == nil { // pipelines and connectors alternate
		loop = append(loop[1:], loop[0])
	}
	for _, j := range loop {
		if w.reported[j] {
			return
		}
	}
	var text strings.Builder
	for _, j := range append(loop, loop[0]) {
		if text.Len() > 0 {
			text.WriteString(" -> ")
		}
		text.WriteString(w.g.nodes[j].name)
	}
	for _, j := range loop {
		w.reported[j] = w.g.nodes[j].at != nil
	}
	if w.severity == Warning {
		text.WriteString(" (unless a connector does not serve these signals)")
	}
	w.c.report(w.severity, w.g.nodes[loop[0]].at, "C010", "pipelines form a cycle: %s", text.String())
}
