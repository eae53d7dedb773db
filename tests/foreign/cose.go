package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/veraison/go-cose"
	"golang.org/x/mod/sumdb/note"
)

// Labels of RFC 9942, and the one under which Salus puts the record's way into the block.
const (
	labelVDS       = int64(395)
	labelVDP       = int64(396)
	labelInclusion = int64(-1)
	labelRecord    = int64(-65537)
	rfc9162SHA256  = int64(1)
)

type inclusion struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64
	Index uint64
	Path  [][]byte
}

// checkCose verifies a COSE Receipt as RFC 9942 says: the inclusion proof gives the root, which is the
// detached payload. Then it follows the record into the block whose header note is the entry.
func checkCose(path string, log note.Verifier, shards vkeys) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var message cose.Sign1Message
	if err := message.UnmarshalCBOR(raw); err != nil {
		return "", err
	}
	if vds := message.Headers.Protected[labelVDS]; vds != rfc9162SHA256 || message.Payload != nil {
		return "", fmt.Errorf("vds %v, payload %x", vds, message.Payload)
	}
	proofs, _ := message.Headers.Unprotected[labelVDP].(map[any]any)
	inclusions, _ := proofs[labelInclusion].([]any)
	record, _ := message.Headers.Unprotected[labelRecord].([]any)
	if len(inclusions) != 1 || len(record) != 4 {
		return "", errors.New("not one inclusion proof and one record")
	}
	header, _ := record[2].([]byte)
	inLog, err := rootOf(inclusions[0], header)
	if err != nil {
		return "", err
	}
	key, err := publicKey(log)
	if err != nil {
		return "", err
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmEdDSA, key)
	if err != nil {
		return "", err
	}
	message.Payload = inLog.root
	if err := message.Verify(nil, verifier); err != nil {
		return "", fmt.Errorf("log: %w", err)
	}
	return checkRecord(record, header, shards, inLog)
}

type proven struct {
	root        []byte
	size, index uint64
}

// rootOf applies an inclusion proof to an entry.
func rootOf(encoded any, entry []byte) (*proven, error) {
	bytes, _ := encoded.([]byte)
	var read inclusion
	if err := cbor.Unmarshal(bytes, &read); err != nil {
		return nil, err
	}
	hasher := rfc6962.DefaultHasher
	root, err := proof.RootFromInclusionProof(hasher, read.Index, read.Size, hasher.HashLeaf(entry), read.Path)
	return &proven{root, read.Size, read.Index}, err
}

func checkRecord(record []any, header []byte, shards vkeys, inLog *proven) (string, error) {
	leaf, _ := record[0].([]byte)
	inBlock, err := rootOf(record[1], leaf)
	if err != nil {
		return "", err
	}
	if err := openHeader(header, shards); err != nil {
		return "", err
	}
	lines := strings.Split(string(header), "\n")
	if lines[1] != fmt.Sprint(inBlock.size) || lines[2] != base64.StdEncoding.EncodeToString(inBlock.root) {
		return "", errors.New("the record's path does not lead to the block's root")
	}
	return fmt.Sprintf("ok: leaf %d of %s, entry %d of %d", inBlock.index, lines[0], inLog.index, inLog.size), nil
}

// publicKey takes the key out of a verifier's text form; sumdb/note keeps its own to itself.
func publicKey(log note.Verifier) (ed25519.PublicKey, error) {
	for _, given := range os.Args {
		name, rest, _ := strings.Cut(given, "+")
		_, material, found := strings.Cut(rest, "+")
		if !found || name != log.Name() {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(material)
		if err != nil || len(raw) != 1+ed25519.PublicKeySize {
			return nil, fmt.Errorf("not the key of %s", name)
		}
		return ed25519.PublicKey(raw[1:]), nil
	}
	return nil, errors.New("no key of the log")
}
