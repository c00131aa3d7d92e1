package app_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/bellwether-opamp/bellwether/internal/store"
)

// What happened is in the journal when the server has stopped, the last line too.
func TestTheJournalHasEverythingAfterAStop(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.agents(2, nil)
	w.until("the rollout is completed", w.completed)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Config{Dir: filepath.Join(w.cfg.DataDir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	lines, err := s.ReadJournal(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, line := range lines {
		text.Write(line)
		text.WriteByte('\n')
	}
	for _, want := range []string{`"kind":"revision accepted"`, `"kind":"started"`, `"phase":"Completed"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s is not in the journal:\n%s", want, text.String())
		}
	}
}
