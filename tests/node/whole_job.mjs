// A TypeScript client does the whole job: submit, wait with progress, result. One line of JSON says what it saw.
//   node --input-type=module - CLIENT ORDER URL | COMMAND... < whole_job.mjs
// CLIENT is the package; the server is reached over HTTP by its URL, or started as COMMAND.
const [packageName, order, ...where] = process.argv.slice(2);

const packages = {
  "@modelcontextprotocol/sdk": {
    client: "/client/index.js", stdio: "/client/stdio.js", http: "/client/streamableHttp.js", options: {},
  },
  "@modelcontextprotocol/client": {
    client: "", stdio: "/stdio", http: "", options: { versionNegotiation: { mode: "auto" } },
  },
};
const { options, ...paths } = packages[packageName];
const { Client } = await import(packageName + paths.client);
const { StdioClientTransport } = await import(packageName + paths.stdio);
const { StreamableHTTPClientTransport } = await import(packageName + paths.http);

const [first, ...rest] = where;
const transport = first.startsWith("http:")
  ? new StreamableHTTPClientTransport(new URL(first))
  : new StdioClientTransport({ command: first, args: rest, env: process.env });
let revision;
const told = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => { revision = version; told?.(version); };

const client = new Client({ name: packageName, version: "1" }, options);
const progress = [];
const onprogress = (step) => progress.push(step);
const call = (name, args) => packageName.endsWith("/sdk")
  ? client.callTool({ name, arguments: args }, undefined, { onprogress })
  : client.callTool({ name, arguments: args }, { onprogress });

await client.connect(transport);
const { tools } = await client.listTools();
const started = await call("generate_reference_video", JSON.parse(order));
if (started.isError) throw new Error(started.content[0].text);
const finished = await call("get_task_result", { task_id: started.structuredContent.task_id });
await client.close();
console.log(JSON.stringify({ revision, tools: tools.map((tool) => tool.name), started, finished, progress }));
