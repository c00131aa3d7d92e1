package store_test

import (
	"context"
	"testing"

	"github.com/bellwether-opamp/bellwether/internal/store"
	"github.com/bellwether-opamp/bellwether/internal/store/storetest"
)

// subject lets the suite begin terms, whose type it does not know.
type subject struct{ *store.Store }

func (s subject) Begin(ctx context.Context) (storetest.Term, error) { return s.Campaign(ctx) }

func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Subject{
		Open:     func(t testing.TB, dir string) storetest.Store { return subject{open(t, dir)} },
		Deposed:  store.ErrDeposed,
		NoConfig: store.ErrNoConfig,
	})
}
