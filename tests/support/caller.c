/* A module that sends a command on its own account: MODULECALL command [argument ...]. It takes what it needs of the module
 * API by name, so that it compiles without the header of a server. */

#include <stddef.h>

typedef struct Context Context;
typedef struct String String;
typedef struct Reply Reply;

static int (*get_api)(const char *name, void *function);
static int (*set_module_attribs)(Context *context, const char *name, int version, int api);
static int (*create_command)(Context *, const char *, int (*)(Context *, String **, int), const char *, int, int, int);
static const char *(*string_bytes)(const String *, size_t *);
static Reply *(*call)(Context *, const char *, const char *, ...);
static int (*reply_with)(Context *, Reply *);
static int (*reply_error)(Context *, const char *);

static int run(Context *context, String **words, int count) {
    Reply *reply;
    if (count < 2) return reply_error(context, "ERR which command?");
    reply = call(context, string_bytes(words[1], NULL), "v", words + 2, (size_t)(count - 2));
    return reply ? reply_with(context, reply) : reply_error(context, "ERR the server did not run it");
}

int RedisModule_OnLoad(Context *context) {
    int missing;
    get_api = ((int (**)(const char *, void *))context)[0];
    missing = get_api("RedisModule_SetModuleAttribs", &set_module_attribs)
        + get_api("RedisModule_CreateCommand", &create_command)
        + get_api("RedisModule_StringPtrLen", &string_bytes)
        + get_api("RedisModule_Call", &call)
        + get_api("RedisModule_ReplyWithCallReply", &reply_with)
        + get_api("RedisModule_ReplyWithError", &reply_error);
    if (missing) return 1;
    set_module_attribs(context, "caller", 1, 1);
    return create_command(context, "modulecall", run, "write deny-oom", 0, 0, 0);
}
