package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/codenotary/immudb/embedded/logger"
	"github.com/codenotary/immudb/pkg/api/schema"
	"github.com/codenotary/immudb/pkg/client"
	"github.com/codenotary/immudb/pkg/server"
	"github.com/codenotary/immudb/pkg/server/sessions"
	"golang.org/x/sync/errgroup"
)

const (
	immudbModule = "github.com/codenotary/immudb"
	database     = "peers"
	messageBytes = 32 << 20
)

// immudb starts a server on a free port and lets clients, each with its own connection and session, write
// batches until all values are in. Each batch is one transaction, on the disk when it is answered.
func immudb(flags *flag.FlagSet) measurement {
	count := flags.Uint64("values", 1_000_000, "how many values")
	clients := flags.Uint64("clients", 64, "connections that write at once")
	batch := flags.Uint64("batch", 1000, "values in a transaction")
	noWait := flags.Bool("no-wait", false, "do not wait for the index")
	return func(ctx context.Context, folder string) (figures, error) {
		immu, err := startImmudb(filepath.Join(folder, "server"), int(*clients))
		if err != nil {
			return nil, err
		}
		defer immu.stop()
		writers, err := immu.connect(ctx, folder, int(*clients))
		defer disconnect(writers)
		if err != nil {
			return nil, err
		}
		seconds, err := write(ctx, writers, *count, *batch, *noWait)
		if err != nil {
			return nil, err
		}
		return figures{
			"system": "immudb", "version": versionOf(immudbModule), "values": *count, "value_bytes": valueBytes,
			"values_per_s": round(float64(*count) / seconds), "seconds": seconds,
			"clients": *clients, "batch": *batch, "index_awaited": !*noWait, "synced": true, "keys": "ascending",
		}, nil
	}
}

type immudbServer struct {
	server *server.ImmuServer
	served chan error
	port   int
}

// startImmudb serves gRPC as immudb's own Start does, but leaves signals, console and metrics alone.
func startImmudb(folder string, clients int) (*immudbServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	options := server.DefaultOptions().
		WithDir(folder).
		WithListener(listener).
		WithLogFormat(logger.LogFormatJSON).
		WithMaxRecvMsgSize(messageBytes).
		WithNoHistograms(true).
		WithSessionOptions(sessions.DefaultOptions().WithMaxSessions(2 * clients))
	immu := server.DefaultServer()
	immu.WithOptions(options).WithLogger(logger.NewSimpleLoggerWithLevel("immudb", os.Stderr, logger.LogError))
	if err := immu.Initialize(); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if err := immu.SessManager.StartSessionsGuard(); err != nil {
		return nil, errors.Join(err, listener.Close(), immu.CloseDatabases())
	}
	started := &immudbServer{immu, make(chan error, 1), listener.Addr().(*net.TCPAddr).Port}
	go func() { started.served <- immu.GrpcServer.Serve(listener) }()
	return started, nil
}

// stop ends everything. immudb 1.10 closes each database twice and logs an error for the second time, to a
// logger that cannot be replaced: "already closed" on stderr is all right.
func (s *immudbServer) stop() {
	s.server.GrpcServer.Stop()
	err := errors.Join(<-s.served, s.server.SessManager.StopSessionsGuard(), s.server.CloseDatabases())
	if err != nil {
		fmt.Fprintln(os.Stderr, "immudb, while it stopped:", err)
	}
}

// connect opens so many sessions on a database that takes as many transactions at once.
func (s *immudbServer) connect(ctx context.Context, folder string, clients int) ([]client.ImmuClient, error) {
	first, err := s.session(ctx, folder, server.DefaultDBName)
	if err != nil {
		return nil, err
	}
	defer disconnect([]client.ImmuClient{first})
	atOnce := &schema.NullableUint32{Value: uint32(2 * clients)}
	settings := &schema.DatabaseNullableSettings{MaxConcurrency: atOnce}
	if _, err := first.CreateDatabaseV2(ctx, database, settings); err != nil {
		return nil, err
	}
	var opened []client.ImmuClient
	for range clients {
		one, err := s.session(ctx, folder, database)
		if err != nil {
			return opened, err
		}
		opened = append(opened, one)
	}
	return opened, nil
}

func (s *immudbServer) session(ctx context.Context, folder, name string) (client.ImmuClient, error) {
	options := client.DefaultOptions().
		WithDir(filepath.Join(folder, "client")).
		WithAddress("127.0.0.1").
		WithPort(s.port).
		WithMaxRecvMsgSize(messageBytes).
		WithDisableIdentityCheck(true)
	opened := client.NewClient().WithOptions(options)
	return opened, opened.OpenSession(ctx, []byte("immudb"), []byte("immudb"), name)
}

func disconnect(opened []client.ImmuClient) {
	for _, one := range opened {
		_ = one.CloseSession(context.Background())
	}
}

// write hands batches of ascending keys to the clients, and returns how many seconds all of them took.
func write(
	ctx context.Context, writers []client.ImmuClient, count, batch uint64, noWait bool,
) (float64, error) {
	made, next := newValues(), atomic.Uint64{}
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for _, writer := range writers {
		group.Go(func() error {
			for {
				first := next.Add(batch) - batch
				if first >= count {
					return nil
				}
				request := &schema.SetRequest{KVs: keyed(made, first, min(first+batch, count)), NoWait: noWait}
				if _, err := writer.SetAll(ctx, request); err != nil {
					return err
				}
			}
		})
	}
	err := group.Wait()
	return secondsSince(began), err
}

func keyed(made values, first, end uint64) []*schema.KeyValue {
	pairs := make([]*schema.KeyValue, 0, end-first)
	for number := first; number < end; number++ {
		pairs = append(pairs, &schema.KeyValue{
			Key:   binary.BigEndian.AppendUint64(nil, number),
			Value: made.make(number),
		})
	}
	return pairs
}
