// The same crawl with Crawlee's CheerioCrawler: 32 at once, no robots, no output; the rest is its default.
// `node FILE URL EXCLUDE`, in the folder that has its packages.

import { CheerioCrawler, Configuration, LogLevel, log } from "@crawlee/cheerio";

const CONCURRENCY = 32;
const [start, exclude] = process.argv.slice(2);

log.setLevel(LogLevel.OFF);
const crawler = new CheerioCrawler(
  {
    minConcurrency: CONCURRENCY,
    maxConcurrency: CONCURRENCY,
    useSessionPool: false,
    additionalMimeTypes: ["*/*"], // what is no page is taken all the same, as the others take it
    async requestHandler({ contentType, enqueueLinks }) {
      if (contentType.type === "text/html") await enqueueLinks({ selector: "a, area", exclude: [new RegExp(exclude)] });
    },
  },
  new Configuration({ persistStorage: false }),
);
await crawler.run([start]);
