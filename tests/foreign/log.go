package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	f_log "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

// checkLog runs Tessera's fsck over the whole log, then proves entries and old sizes with Go's tlog, and
// opens every entry as a signed note of a shard, if shards' keys are given.
func checkLog(where string, verifier note.Verifier, shards vkeys) (string, error) {
	fetcher, err := fetcherOf(where)
	if err != nil {
		return "", err
	}
	ctx := context.Background()
	if err := fsck.New(verifier.Name(), verifier, fetcher, hashBundle, fsck.Opts{N: 2}).Check(ctx); err != nil {
		return "", fmt.Errorf("tessera fsck: %w", err)
	}
	raw, err := fetcher.ReadCheckpoint(ctx)
	if err != nil {
		return "", err
	}
	head, _, _, err := f_log.ParseCheckpoint(raw, verifier.Name(), verifier)
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	tree := tlog.Tree{N: int64(head.Size)}
	copy(tree.Hash[:], head.Hash)
	entries, err := readEntries(ctx, fetcher, head.Size)
	if err != nil {
		return "", err
	}
	if err := prove(ctx, fetcher, tree, entries); err != nil {
		return "", err
	}
	if len(shards) > 0 {
		for i, entry := range entries {
			if err := openHeader(entry, shards); err != nil {
				return "", fmt.Errorf("entry %d: %w", i, err)
			}
		}
	}
	return fmt.Sprintf("ok: %d entries, root %x", head.Size, head.Hash), nil
}

func fetcherOf(where string) (fsck.Fetcher, error) {
	parsed, err := url.Parse(where)
	if err != nil {
		return nil, err
	}
	if parsed.Scheme == "file" {
		return &client.FileFetcher{Root: parsed.Path}, nil
	}
	return client.NewHTTPFetcher(parsed, nil)
}

func hashBundle(data []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(data); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(bundle.Entries))
	for _, entry := range bundle.Entries {
		hash := tlog.RecordHash(entry)
		hashes = append(hashes, hash[:])
	}
	return hashes, nil
}

func readEntries(ctx context.Context, fetcher fsck.Fetcher, size uint64) ([][]byte, error) {
	var entries [][]byte
	for uint64(len(entries)) < size {
		index := uint64(len(entries)) / 256
		width := min(size-index*256, 256)
		data, err := fetcher.ReadEntryBundle(ctx, index, uint8(width%256))
		if err != nil {
			return nil, err
		}
		var bundle api.EntryBundle
		if err := bundle.UnmarshalText(data); err != nil {
			return nil, err
		}
		entries = append(entries, bundle.Entries...)
	}
	return entries, nil
}

// tiles lets Go's tlog read tiles, which it verifies against the tree's hash by itself.
type tiles struct {
	ctx     context.Context
	fetcher fsck.Fetcher
}

func (t tiles) Height() int                     { return tileHeight }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, 0, len(wanted))
	for _, tile := range wanted {
		one, err := t.fetcher.ReadTile(t.ctx, uint64(tile.L), uint64(tile.N), uint8(tile.W%256))
		if err != nil {
			return nil, err
		}
		data = append(data, one)
	}
	return data, nil
}

// prove checks the record proof of every 13th entry and the tree proof of every 13th size.
func prove(ctx context.Context, fetcher fsck.Fetcher, tree tlog.Tree, entries [][]byte) error {
	reader := tlog.TileHashReader(tree, tiles{ctx, fetcher})
	for n := int64(0); n < tree.N; n += 13 {
		record, err := tlog.ProveRecord(tree.N, n, reader)
		if err != nil {
			return fmt.Errorf("proving entry %d: %w", n, err)
		}
		if err := tlog.CheckRecord(record, tree.N, tree.Hash, n, tlog.RecordHash(entries[n])); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
		older, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			return fmt.Errorf("root at %d: %w", n+1, err)
		}
		proof, err := tlog.ProveTree(tree.N, n+1, reader)
		if err != nil {
			return fmt.Errorf("proving size %d: %w", n+1, err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, n+1, older); err != nil {
			return fmt.Errorf("size %d: %w", n+1, err)
		}
	}
	return nil
}

// openHeader opens a block header: a note by the shard, whose text is a checkpoint of the block's own tree.
func openHeader(raw []byte, shards vkeys) error {
	opened, err := note.Open(raw, note.VerifierList(shards...))
	if err != nil {
		return err
	}
	var head f_log.Checkpoint
	if _, err := head.Unmarshal([]byte(opened.Text)); err != nil {
		return fmt.Errorf("as a checkpoint: %w", err)
	}
	if !strings.HasPrefix(head.Origin, opened.Sigs[0].Name+"/block/") {
		return fmt.Errorf("the block is called %q", head.Origin)
	}
	return nil
}
