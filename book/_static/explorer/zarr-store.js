// Caches in a browser: files of any static server, and zarrita with the checks of a cache.
"use strict";

(() => {
  // Castagnoli's polynomial, reflected, as in every chunk of a cache.
  const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit += 1) value = (value >>> 1) ^ (value & 1 ? 0x82f63b78 : 0);
    return value;
  });

  function crc32c(bytes) {
    let value = 0xffffffff;
    for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 255];
    return (value ^ 0xffffffff) >>> 0;
  }

  // zarrita's own codec drops the checksum unread.
  zarrita.registry.set("crc32c", () => ({
    fromConfig: () => ({
      kind: "bytes_to_bytes",
      computeEncodedSize: (size) => size + 4,
      decode(bytes) {
        const body = bytes.subarray(0, bytes.length - 4);
        const stated = new DataView(bytes.buffer, bytes.byteOffset + body.length, 4).getUint32(0, true);
        if (crc32c(body) !== stated) throw new Error("A chunk fails its checksum: the file is damaged.");
        return body;
      },
    }),
  }));

  // Python's server knows no ranges: it answers with the whole file, so a file is fetched once.
  class Files {
    constructor(address) {
      this.address = address.replace(/\/$/, "");
      this.files = new Map();
    }

    get(key) {
      if (!this.files.has(key)) this.files.set(key, this.fetch(key));
      return this.files.get(key);
    }

    async fetch(key) {
      const answer = await fetch(this.address + key);
      if (answer.status === 404) return undefined;
      if (!answer.ok) throw new Error(`${this.address + key}: the server answers ${answer.status}.`);
      return new Uint8Array(await answer.arrayBuffer());
    }

    async getRange(key, range) {
      const file = await this.get(key);
      if (file === undefined) return undefined;
      const start = "suffixLength" in range ? file.length - range.suffixLength : range.offset;
      return file.subarray(start, "suffixLength" in range ? file.length : start + range.length);
    }
  }

  class Store {
    static async open(address) {
      const files = await zarrita.withMaybeConsolidatedMetadata(new Files(address), { format: "v3" });
      if ((await files.get("/zarr.json")) === undefined) {
        throw new Error(`No cache at ${address}: it has no zarr.json. Give the address of a folder NAME.zarr.`);
      }
      const group = await zarrita.open.v3(zarrita.root(files), { kind: "group" });
      return new Store(address, group);
    }

    constructor(address, group) {
      this.address = address;
      this.group = group;
      this.attributes = group.attrs;
    }

    // The numbers or texts of an array, in C order, with its shape.
    async read(path) {
      try {
        const array = await zarrita.open.v3(this.group.resolve(path), { kind: "array" });
        return await zarrita.get(array);
      } catch (error) {
        const reason = error.cause?.message ?? error.message;
        throw new Error(`${this.address}/${path}: ${reason}`, { cause: error });
      }
    }
  }

  window.explorerStore = { Store, crc32c };
})();
