// What the page Explore takes from zarrita. Its caches are compressed with Zstandard alone, which
// fzstd unpacks in a tenth of the bytes. zarrita reads texts from the start of a buffer, so each
// chunk gets a buffer of its own.
import { decompress } from "fzstd";
import { registry } from "zarrita";

registry.set("zstd", () => ({
  fromConfig: () => ({ kind: "bytes_to_bytes", decode: (bytes) => decompress(bytes).slice() }),
}));

export { get, open, registry, root, withMaybeConsolidatedMetadata } from "zarrita";
