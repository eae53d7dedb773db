package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"io"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
)

const (
	tesseraModule      = "github.com/transparency-dev/tessera"
	checkpointInterval = time.Second
	lookedForEvery     = 10 * time.Millisecond
)

// tesseraLog adds entries to a log in files and waits until a published checkpoint covers the last of them.
func tesseraLog(flags *flag.FlagSet) measurement {
	count := flags.Uint64("entries", 500_000, "how many entries")
	adders := flags.Uint64("adders", 8, "goroutines that add")
	batch := flags.Uint("batch", 4096, "entries that are sequenced together, at most")
	age := flags.Duration("batch-age", tessera.DefaultBatchMaxAge, "how long a batch waits for more, at most")
	// Of its log only errors are shown, on stderr.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	return func(ctx context.Context, folder string) (told figures, err error) {
		// The log is not stopped by a signal: it finishes what it has begun to write, so that its folder can go.
		lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		appender, shutdown, reader, err := openTessera(lasting, filepath.Join(folder, "log"), *batch, *age)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, shutdown(lasting)) }()
		awaiter := tessera.NewPublicationAwaiter(lasting, reader.ReadCheckpoint, lookedForEvery)
		made := newValues()
		began := time.Now()
		if err := add(ctx, appender, made, *count, *adders); err != nil {
			return nil, err
		}
		last := func() (tessera.Index, error) { return tessera.Index{Index: *count - 1}, nil }
		if _, _, err := awaiter.Await(lasting, last); err != nil {
			return nil, err
		}
		seconds := secondsSince(began)
		return figures{
			"system": "tessera", "version": versionOf(tesseraModule), "entries": *count, "entry_bytes": valueBytes,
			"entries_per_s": round(float64(*count) / seconds), "seconds": seconds,
			"storage": "posix", "adders": *adders, "batch": *batch, "batch_age_ms": age.Milliseconds(),
			"checkpoint_interval_ms": checkpointInterval.Milliseconds(), "antispam": false,
		}, nil
	}
}

func openTessera(ctx context.Context, folder string, batch uint, age time.Duration) (
	*tessera.Appender, func(context.Context) error, tessera.LogReader, error,
) {
	secret, _, err := note.GenerateKey(rand.Reader, "peers.invalid/log")
	if err != nil {
		return nil, nil, nil, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, nil, nil, err
	}
	driver, err := posix.New(ctx, posix.Config{Path: folder})
	if err != nil {
		return nil, nil, nil, err
	}
	return tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(checkpointInterval).
		WithBatching(batch, age))
}

// add adds all entries, each goroutine its share, and returns when each has its index in the log.
func add(ctx context.Context, to *tessera.Appender, made values, count, adders uint64) error {
	group := errgroup.Group{}
	for adder := range adders {
		group.Go(func() error {
			var added []tessera.IndexFuture
			for number := adder; number < count && ctx.Err() == nil; number += adders {
				added = append(added, to.Add(context.WithoutCancel(ctx), tessera.NewEntry(made.make(number))))
			}
			for _, index := range added {
				if _, err := index(); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}
