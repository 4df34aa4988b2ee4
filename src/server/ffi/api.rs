//! The functions of the module API that the module cannot do without.

use redis_module::raw;

/// Calls a function of the module API, inside an unsafe block with its own argument. The function must be among those that
/// the module is not loaded without.
macro_rules! api {
    ($function:ident ( $($argument:expr),* $(,)? )) => {
        // SAFETY: beside the argument of the block around it: `missing` has found the function before anything is called,
        // or the module was not loaded.
        match redis_module::raw::$function {
            Some(function) => {
                let () = $crate::server::ffi::api::needed::$function;
                function($($argument),*)
            }
            None => std::hint::unreachable_unchecked(),
        }
    };
}

/// Names the functions, and looks for them.
macro_rules! needed {
    ($($function:ident)*) => {
        /// A name for each function, so that `api!` compiles with these only.
        #[allow(non_upper_case_globals, reason = "they are named like the functions")]
        pub(super) mod needed {
            $(pub(in super::super) const $function: () = ();)*
        }

        /// The name of a function that this server lacks.
        pub(super) fn missing() -> Option<&'static str> {
            // SAFETY: the statics were set by the initialisation; they are copied here, and nobody writes them any more.
            let found = unsafe { [$((stringify!($function), { raw::$function }.is_some())),*] };
            found.into_iter().find(|(_, is_there)| !is_there).map(|(name, _)| name)
        }
    };
}

needed! {
    RedisModule_ACLCheckCommandPermissions
    RedisModule_AvoidReplicaTraffic
    RedisModule_BlockClient
    RedisModule_CallReplyArrayElement
    RedisModule_CallReplyInteger
    RedisModule_CallReplyProto
    RedisModule_CallReplyStringPtr
    RedisModule_CallReplyType
    RedisModule_Call
    RedisModule_CloseKey
    RedisModule_CreateCommand
    RedisModule_CreateDataType
    RedisModule_CreateString
    RedisModule_CreateTimer
    RedisModule_DeleteKey
    RedisModule_DigestAddLongLong
    RedisModule_DigestAddStringBuffer
    RedisModule_DigestEndSequence
    RedisModule_EmitAOF
    RedisModule_EventLoopAddOneShot
    RedisModule_FreeCallReply
    RedisModule_FreeModuleUser
    RedisModule_FreeServerInfo
    RedisModule_FreeString
    RedisModule_Free
    RedisModule_GetBlockedClientPrivateData
    RedisModule_GetClientId
    RedisModule_GetClientInfoById
    RedisModule_GetClientUserNameById
    RedisModule_GetCommandKeysWithFlags
    RedisModule_GetCommand
    RedisModule_GetContextFlags
    RedisModule_GetCurrentUserName
    RedisModule_GetDbIdFromIO
    RedisModule_GetDbIdFromOptCtx
    RedisModule_GetDetachedThreadSafeContext
    RedisModule_GetExpire
    RedisModule_GetKeyNameFromIO
    RedisModule_GetKeyNameFromOptCtx
    RedisModule_GetModuleUserFromUserName
    RedisModule_GetKeyspaceNotificationFlagsAll
    RedisModule_GetMyClusterID
    RedisModule_GetNotifyKeyspaceEvents
    RedisModule_GetSelectedDb
    RedisModule_GetServerInfo
    RedisModule_GetServerVersion
    RedisModule_InfoAddFieldULongLong
    RedisModule_InfoAddSection
    RedisModule_IsIOError
    RedisModule_IsKeysPositionRequest
    RedisModule_KeyAtPosWithFlags
    RedisModule_KeyType
    RedisModule_LatencyAddSample
    RedisModule_LoadConfigs
    RedisModule_LoadStringBuffer
    RedisModule_LoadUnsigned
    RedisModule_LogIOError
    RedisModule_ModuleTypeGetType
    RedisModule_ModuleTypeGetValue
    RedisModule_ModuleTypeSetValue
    RedisModule_MonotonicMicroseconds
    RedisModule_OpenKey
    RedisModule_PublishMessageShard
    RedisModule_RegisterBoolConfig
    RedisModule_RegisterNumericConfig
    RedisModule_NotifyKeyspaceEvent
    RedisModule_RegisterInfoFunc
    RedisModule_ReplicateVerbatim
    RedisModule_Replicate
    RedisModule_ReplyWithArray
    RedisModule_ReplyWithCallReply
    RedisModule_ReplyWithError
    RedisModule_ReplyWithLongLong
    RedisModule_ReplyWithMap
    RedisModule_ReplyWithNullArray
    RedisModule_ReplyWithNull
    RedisModule_ReplyWithStringBuffer
    RedisModule_SaveStringBuffer
    RedisModule_SaveUnsigned
    RedisModule_SelectDb
    RedisModule_ServerInfoGetFieldC
    RedisModule_ServerInfoGetFieldSigned
    RedisModule_SetCommandInfo
    RedisModule_SetDisconnectCallback
    RedisModule_SetExpire
    RedisModule_SetModuleOptions
    RedisModule_SignalModifiedKey
    RedisModule_StopTimer
    RedisModule_StringDMA
    RedisModule_StringPtrLen
    RedisModule_SubscribeToKeyspaceEvents
    RedisModule_SubscribeToServerEvent
    RedisModule_UnblockClient
}
