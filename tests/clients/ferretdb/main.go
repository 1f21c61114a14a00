// FerretDB, which speaks MongoDB's protocol, with its tables in the folder that it is given. It
// prints its address once it listens, and serves until it is killed. Run by mongodb.py.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: "127.0.0.1:0"},
		Handler:   "sqlite",
		SQLiteURL: "file:" + os.Args[1] + "/",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(server.MongoDBURI())
	log.Fatal(server.Run(context.Background()))
}
