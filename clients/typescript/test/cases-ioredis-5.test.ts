import { runCases } from "./cases.js";
import { KINDS } from "./support.js";

runCases(KINDS.ioRedis5);
