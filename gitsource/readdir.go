package gitsource

import (
	"context"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// ReadDir reads a directory as it is now, committed or not, as a [Source] would
// read a plain one: for checks before a commit. Anybody may call it.
func ReadDir(ctx context.Context, dir, path string) (fleet.Snapshot, error) {
	if path == "" {
		path = "."
	}
	var limits Limits
	if err := limits.setDefaults(); err != nil {
		return fleet.Snapshot{}, err
	}
	var p plain
	if _, err := p.read(ctx, dir, path, limits); err != nil {
		return fleet.Snapshot{}, err
	}
	return p.snapshot(path), nil
}
