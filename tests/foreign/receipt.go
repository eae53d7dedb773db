package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"

	f_log "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const proofLine = "c2sp.org/tlog-proof@v1\n"

// checkReceipt verifies a receipt as docs/ledger-format.md says, with Go's note and tlog.
func checkReceipt(path, event string, log note.Verifier, shards, witnesses vkeys) (string, error) {
	receipt, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	first, second, found := strings.Cut(string(receipt), "\n\n"+proofLine)
	if !found {
		return "", fmt.Errorf("not two proofs")
	}
	inBlock, err := parseProof(first + "\n")
	if err != nil {
		return "", fmt.Errorf("first proof: %w", err)
	}
	inLog, err := parseProof(proofLine + second)
	if err != nil {
		return "", fmt.Errorf("second proof: %w", err)
	}

	origin, _, _ := strings.Cut(inBlock.checkpoint, "\n")
	shard, _, _ := strings.Cut(origin, "/block/")
	if _, err := inBlock.check(inBlock.extra, origin, shards.named(shard), nil); err != nil {
		return "", fmt.Errorf("block: %w", err)
	}
	cosigners, err := inLog.check([]byte(inBlock.checkpoint), log.Name(), []note.Verifier{log}, witnesses)
	if err != nil {
		return "", fmt.Errorf("log: %w", err)
	}
	if event != "" {
		value, err := os.ReadFile(event)
		if err != nil {
			return "", err
		}
		digest := tlog.RecordHash(value)
		_, rest, _ := bytes.Cut(inBlock.extra, []byte("\n"))
		line, rest, _ := bytes.Cut(rest, []byte("\n"))
		if !bytes.HasPrefix(rest, digest[:]) {
			return "", fmt.Errorf("the event is not the one of %q", line)
		}
	}
	return fmt.Sprintf("ok: leaf %d of %s, entry %d, cosigners %d", inBlock.index, origin, inLog.index, cosigners), nil
}

type tlogProof struct {
	extra      []byte
	index      int64
	path       tlog.RecordProof
	checkpoint string
}

func parseProof(text string) (*tlogProof, error) {
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0]+"\n" != proofLine {
		return nil, fmt.Errorf("not a tlog-proof")
	}
	parsed := &tlogProof{checkpoint: checkpoint}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		extra, err := base64.StdEncoding.DecodeString(lines[0][len("extra "):])
		if err != nil {
			return nil, err
		}
		parsed.extra, lines = extra, lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return nil, fmt.Errorf("no index")
	}
	index, err := strconv.ParseInt(lines[0][len("index "):], 10, 64)
	if err != nil {
		return nil, err
	}
	parsed.index = index
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		parsed.path = append(parsed.path, hash)
	}
	return parsed, nil
}

// check opens the checkpoint and checks the path of a record with these bytes; it returns how many of the
// witnesses cosigned.
func (p *tlogProof) check(record []byte, origin string, keys []note.Verifier, witnesses vkeys) (int, error) {
	if len(keys) != 1 {
		return 0, fmt.Errorf("no key of %q", origin)
	}
	head, _, opened, err := f_log.ParseCheckpoint([]byte(p.checkpoint), origin, keys[0], witnesses...)
	if err != nil {
		return 0, err
	}
	var root tlog.Hash
	copy(root[:], head.Hash)
	err = tlog.CheckRecord(p.path, int64(head.Size), root, p.index, tlog.RecordHash(record))
	return len(opened.Sigs) - 1, err
}
