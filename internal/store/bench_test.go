package store

import (
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/store/storetest"
)

const many = 100_000

func BenchmarkCommitThree(b *testing.B) {
	_, term, edge := fixture(b, many)
	i := 0
	for b.Loop() {
		i++
		edge = storetest.Offered(edge, storetest.Epoch().Add(time.Duration(i)*time.Second), i%many, i*7%many, i*13%many)
		must(b, term.Commit(b.Context(), stateOf(edge)))
	}
}

func BenchmarkFirstCommit(b *testing.B) {
	edge := storetest.Rollout("edge", many)
	for b.Loop() {
		b.StopTimer()
		s := openStore(b, b.TempDir())
		term := campaign(b, s)
		b.StartTimer()
		must(b, term.Commit(b.Context(), stateOf(edge)))
		b.StopTimer()
		must(b, s.Close())
		b.StartTimer()
	}
}

func BenchmarkLoad(b *testing.B) {
	s, _, _ := fixture(b, many)
	for b.Loop() {
		_, err := s.Load(b.Context())
		must(b, err)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		must(b, openStore(b, dir).Close())
	}
}
